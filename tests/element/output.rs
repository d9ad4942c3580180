// SPDX-License-Identifier: MIT OR Apache-2.0

//! Buffers, GAPs, messages and log lines: their order, contents and times.

use std::sync::{Arc, Mutex};

use gst::prelude::*;

use crate::{
    child::{is_child, run_in_child},
    common::clip_s16,
    harness::{Harness, Seen, time_of},
    nemo_text,
};

#[test]
fn words_are_pushed_before_eos() {
    let harness = Harness::play("lookahead=80");
    let samples = clip_s16("u1_command");
    harness.speak(&samples, 1_600);
    let before = harness.words();
    // Another clip, which ends within its last word, so that text is pending at EOS.
    harness.flush();
    harness.speak(&clip_s16("e1_clip300ms"), 1_600);
    harness.take();
    harness.eos();
    let after = harness.take();
    assert!(!before.is_empty(), "words of a long clip are pushed before its end");
    let last = after.iter().rposition(|seen| matches!(seen, Seen::Word(_))).unwrap();
    let end = after
        .iter()
        .position(|seen| *seen == Seen::Event(gst::EventType::Eos))
        .unwrap();
    assert!(last < end, "the last word is pushed before EOS: {after:?}");
}

#[test]
fn gaps_and_words_are_contiguous() {
    let harness = Harness::play("lookahead=80");
    let samples = clip_s16("u5_eight_sentences");
    harness.speak(&samples, 1_600);
    harness.eos();
    let mut position = gst::ClockTime::ZERO;
    let mut discont = true;
    for seen in harness.take() {
        match seen {
            Seen::Gap { pts, duration } => {
                assert_eq!(pts, position);
                position += duration;
            }
            Seen::Word(word) => {
                assert_eq!(word.pts, position, "{word:?}");
                assert_eq!(
                    word.discont, discont,
                    "only the first word after a start is DISCONT: {word:?}"
                );
                discont = false;
                position += word.duration;
            }
            Seen::Event(_) | Seen::Custom(_) => {}
        }
    }
    assert_eq!(position, time_of(samples.len()));
}

#[test]
fn silence_advances_the_output() {
    let harness = Harness::play("lookahead=80");
    harness.speak(&[0; 16_000], 1_600);
    let gaps = harness
        .take()
        .into_iter()
        .filter(|seen| matches!(seen, Seen::Gap { .. }))
        .count();
    // A short one at the start; then 6 chunks of 160 ms fit into the second, each with at most one GAP.
    assert!((2..=7).contains(&gaps), "{gaps} gaps");
}

#[test]
fn words_are_posted_as_messages_unless_disabled() {
    let harness = Harness::play("");
    let samples = clip_s16("u1_command");
    harness.speak(&samples, 1_024);
    harness.eos();
    let words = harness.words();
    let messages = harness.word_messages();
    assert_eq!(words.len(), messages.len());
    for (word, message) in words.iter().zip(&messages) {
        assert_eq!(message.name(), "nemostt");
        assert_eq!(message.get::<&str>("text").unwrap(), word.text);
        assert_eq!(message.get::<gst::ClockTime>("start-time").unwrap(), word.pts);
        assert_eq!(
            message.get::<gst::ClockTime>("end-time").unwrap(),
            word.pts + word.duration
        );
        assert_eq!(message.get::<gst::ClockTime>("running-time").unwrap(), word.pts);
        assert_eq!(message.get::<gst::ClockTime>("stream-time").unwrap(), word.pts);
        let confidence = message.get::<f64>("confidence").unwrap();
        assert!((0.3..=1.0).contains(&confidence), "{confidence}");
        assert!(message.get::<bool>("is-final").unwrap());
    }

    harness.element.set_property("post-messages", false);
    harness.flush();
    harness.speak(&samples, 1_024);
    harness.eos();
    assert_eq!(harness.words().len(), words.len());
    assert!(harness.word_messages().is_empty());
}

#[test]
fn separator_is_appended_to_every_word() {
    let harness = Harness::new("lookahead=80");
    let text = |separator: Option<&str>| {
        harness.element.set_property("separator", separator);
        harness.start();
        harness.speak(&clip_s16("u1_command"), 1_024);
        harness.eos();
        let words: Vec<String> = harness.words().into_iter().map(|word| word.text).collect();
        harness.element.set_state(gst::State::Null).unwrap();
        words.concat()
    };
    let expected = nemo_text("u1_command", 1);
    assert_eq!(text(None), expected.replace(' ', ""));
    assert_eq!(text(Some(" ")), format!("{expected} "));
    assert_eq!(text(Some("")), expected.replace(' ', ""));

    let json = Harness::with_caps("lookahead=80", "application/x-json");
    json.start();
    json.speak(&clip_s16("u1_command"), 1_024);
    json.eos();
    let objects: Vec<String> = json.words().into_iter().map(|word| word.text).collect();
    let lines = objects.concat();
    assert_eq!(lines.lines().count(), objects.len());
    for line in lines.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).unwrap()["text"].is_string());
    }
}

#[test]
fn words_are_logged_at_debug_and_partials_at_log() {
    // In a child process, because log functions and thresholds apply to all elements. Log messages allocate, too, which
    // would fail `live::properties::buffer_within_a_window_does_not_allocate`.
    if !is_child() {
        let output = run_in_child("output::words_are_logged_at_debug_and_partials_at_log", &[]);
        assert!(output.status.success(), "{output:?}");
        return;
    }
    let lines = Arc::new(Mutex::new(Vec::new()));
    let harness = Harness::new("name=logged lookahead=80 post-partials=true");
    let seen = lines.clone();
    let function = gst::log::add_log_function(move |category, level, _, _, _, object, message| {
        let is_this_element = object.is_some_and(|object| object.to_string().contains("logged"));
        if category.name() == "nemostt" && is_this_element {
            let line = message.get().map(|line| line.to_string()).unwrap_or_default();
            seen.lock().unwrap().push((level, line));
        }
    });
    gst::log::set_threshold_for_name("nemostt", gst::DebugLevel::Log);
    harness.start();
    harness.speak(&clip_s16("u1_command"), 1_024);
    harness.eos();
    gst::log::set_threshold_for_name("nemostt", gst::DebugLevel::None);
    gst::log::remove_log_function(function);

    let lines = lines.lock().unwrap();
    let texts = |level, kind: &str| -> Vec<&str> {
        let lines = lines.iter().filter(|line| line.0 == level);
        lines
            .map(|line| line.1.as_str())
            .filter(|line| line.starts_with(kind))
            .collect()
    };
    let words = harness.words();
    let finals = texts(gst::DebugLevel::Debug, "final ");
    assert_eq!(finals.len(), words.len(), "{lines:?}");
    for (line, word) in finals.iter().zip(&words) {
        let expected = format!("final \"{}\", running time {} to ", word.text, word.pts);
        assert!(line.starts_with(&expected), "{line}");
    }
    assert!(!texts(gst::DebugLevel::Log, "partial ").is_empty(), "{lines:?}");
    assert!(texts(gst::DebugLevel::Debug, "partial ").is_empty(), "{lines:?}");
}

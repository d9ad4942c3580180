// SPDX-License-Identifier: MIT OR Apache-2.0

//! Properties that change in PLAYING, the action signal and events that end an utterance, and large units of work.

use std::time::{Duration, Instant};

use gst::prelude::*;

use super::{
    assert_in_time,
    live_source::{Live, words},
    pauses, sentences, whole,
};
use crate::{
    MS, SECOND,
    common::{clip_s16, data},
    harness::{Harness, Seen, buffer, text, time_of},
};

/// All text in `seen`.
fn text_of(seen: &[Seen]) -> String {
    text(&words(seen))
}

#[test]
fn output_changes_between_utterances_without_losing_text() {
    let samples = sentences();
    let expected = whole("lookahead=80", &samples);
    for (from, to) in [("words", "utterances"), ("utterances", "words")] {
        for at in [20_000, 26_000, 60_000, 100_000, 200_000] {
            let harness = Harness::play(&format!("lookahead=80 output={from}"));
            harness.speak(&samples[..at], 320);
            harness.element.set_property_from_str("output", to);
            harness.speak_from(time_of(at), &samples[at..], 320);
            harness.eos();
            assert_eq!(text_of(&harness.take()), expected, "{from} to {to} at {at}");
        }
    }
}

#[test]
fn words_that_wait_for_others_are_pushed_within_the_latency() {
    let samples = clip_s16("u5_eight_sentences");
    let directory = tempfile::tempdir().unwrap();
    let replacements = directory.path().join("list.txt");
    // It may always go on.
    std::fs::write(&replacements, "the .* => x\n").unwrap();
    let plain = Live::play("lookahead=80").harness.latency().1;
    for (properties, more) in [
        ("inverse-text-normalization=true", 1000 - 320),
        ("inverse-text-normalization=true phrase-hold=400", 400 - 320),
        ("inverse-text-normalization=true phrase-hold=0", 0),
        (
            &format!("replacements-file={} phrase-hold=600", replacements.display()),
            600 - 320,
        ),
        ("decoding-method=beam", 2000 - 320),
        (
            "decoding-method=beam inverse-text-normalization=true phrase-hold=3000",
            3000 - 320,
        ),
    ] {
        let mut live = Live::play(&format!("lookahead=80 {properties}"));
        live.speak(&samples);
        live.wait(4 * SECOND);
        let latency = live.harness.latency().1;
        assert_eq!(latency, plain + more * MS, "{properties}");
        let words = live.words();
        assert!(words.len() > 10, "{properties}");
        assert_in_time(&words, latency);
    }
}

#[test]
fn latency_follows_the_output_in_effect() {
    let samples = sentences();
    let cut = pauses(&samples)[0];
    let harness = Harness::play("lookahead=80 endpoint-silence=800 word-hold=320");
    harness.speak(&samples[..cut], 320);
    let by_word = harness.latency().1;
    harness.messages();
    harness.element.set_property_from_str("output", "utterances");
    assert_eq!(harness.latency().1, by_word, "an utterance is in progress");
    harness.speak_from(time_of(cut), &[0; 16_000], 320);
    assert_eq!(harness.latency().1, by_word + 480 * MS);
    let messages = harness.messages();
    assert!(
        messages
            .iter()
            .any(|message| message.type_() == gst::MessageType::Latency)
    );
}

#[test]
fn lateness_changes_between_utterances_and_running_time_is_monotonic() {
    let samples = sentences();
    for (before, after) in [(0_u32, 500_u32), (500, 0)] {
        let harness = Harness::play(&format!("lookahead=80 lateness={before}"));
        harness.speak(&samples[..60_000], 320);
        harness.element.set_property("lateness", after);
        // The harness fails if running time goes backward.
        harness.speak_from(time_of(60_000), &samples[60_000..], 320);
        harness.eos();
        assert_eq!(text_of(&harness.take()), whole("lookahead=80", &samples));
        assert_eq!(harness.segment_base(), Some(u64::from(after) * MS));
    }
}

#[test]
fn pause_settings_can_change_at_any_time() {
    let samples = sentences();
    let harness = Harness::play("lookahead=480");
    let mut values = [0_u32, 80, 320, 800, 2_000].into_iter().cycle();
    for (index, block) in samples.chunks(4_800).enumerate() {
        let name = [
            "word-hold",
            "endpoint-silence",
            "max-utterance",
            "min-word-duration",
            "latency",
        ][index % 5];
        harness.element.set_property(name, values.next().unwrap());
        harness.speak_from(time_of(index * 4_800), block, 320);
    }
    harness.eos();
    assert_eq!(text_of(&harness.take()), whole("lookahead=480", &samples));
}

#[test]
fn unknown_language_posts_a_warning() {
    let path = data("kinds/nemotron_multi");
    let harness = Harness::play(&format!("model-path={}", path.display()));
    let samples = clip_s16("u1_command");
    harness.speak(&samples[..16_000], 1_600);
    harness.messages();
    harness.element.set_property("language-code", "tlh");
    harness.speak_from(time_of(16_000), &samples[16_000..], 1_600);
    harness.eos();
    let messages = harness.messages();
    let warnings: Vec<String> = messages
        .iter()
        .filter_map(|message| match message.view() {
            gst::MessageView::Warning(warning) => Some(warning.error().message().to_owned()),
            gst::MessageView::Error(error) => panic!("{error:?}"),
            _ => None,
        })
        .collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("language-code") && warnings[0].contains("tlh"),
        "{warnings:?}"
    );
}

#[test]
fn hotwords_change_in_playing_and_wrong_ones_are_a_warning() {
    let samples = clip_s16("u3_long");
    let boosted = |settings: &str| {
        let harness = Harness::play(&format!("lookahead=80 {settings}"));
        harness.speak(&samples, 1_600);
        harness.eos();
        text_of(&harness.take())
    };
    let plain = boosted("");
    let phrases = "nine nine:12, kitchen:12, stop:12, one eight:9, the bedroom door:9";
    let expected = boosted(&format!("hotwords=\"{phrases}\""));
    assert_ne!(expected, plain);

    let harness = Harness::play("lookahead=80");
    harness.element.set_property("hotwords", phrases);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("list.txt");
    let file = file.to_str().unwrap();
    let mut at = 0;
    for (name, value, expected) in [
        ("latency", "100", None),
        // These cannot be used: the previous phrases stay.
        ("hotwords", "zwölf", Some("\"zwölf\" ('ö')")),
        ("hotwords", "six:-1", Some("\"six\" has weight -1")),
        ("hotwords", phrases, None),
        ("hotwords-file", file, Some("hotwords-file: cannot read")),
    ] {
        harness.messages();
        harness.element.set_property_from_str(name, value);
        harness.speak_from(time_of(at), &samples[at..at + 1_600], 320);
        at += 1_600;
        let warnings: Vec<String> = harness
            .messages()
            .iter()
            .filter_map(|message| match message.view() {
                gst::MessageView::Warning(warning) => Some(warning.error().message().to_owned()),
                gst::MessageView::Error(error) => panic!("{error:?}"),
                _ => None,
            })
            .collect();
        assert_eq!(warnings.len(), usize::from(expected.is_some()), "{warnings:?}");
        assert!(
            warnings.iter().all(|warning| warning.contains(expected.unwrap())),
            "{warnings:?}"
        );
    }
    harness.speak_from(time_of(at), &samples[at..], 320);
    harness.eos();
    assert_eq!(text_of(&harness.take()), expected);

    // A file is read when it is set, also again.
    let harness = Harness::play("lookahead=80 hotwords-weight=12");
    for list in [
        "zero",
        "# none\nnine nine\nkitchen\nstop\none eight\t9\nthe bedroom door: 9",
    ] {
        std::fs::write(file, list).unwrap();
        harness.element.set_property("hotwords-file", file);
    }
    // Not by the streaming thread.
    std::fs::remove_file(file).unwrap();
    harness.speak(&samples, 1_600);
    harness.eos();
    assert_eq!(text_of(&harness.take()), expected);
}

#[test]
fn phrases_that_the_model_cannot_write_are_skipped_with_one_warning() {
    let samples = clip_s16("u3_long");
    let spoken = |hotwords: &str| {
        let harness = Harness::play(&format!("lookahead=80 hotwords=\"{hotwords}\""));
        harness.speak(&samples, 1_600);
        harness.eos();
        let warnings: Vec<String> = harness
            .messages()
            .iter()
            .filter_map(|message| match message.view() {
                gst::MessageView::Warning(warning) => Some(warning.error().message().to_owned()),
                _ => None,
            })
            .collect();
        (text_of(&harness.take()), warnings)
    };
    let phrases = "nine nine:12, kitchen:12, stop:12, one eight:9, the bedroom door:9";
    let (expected, warnings) = spoken(phrases);
    assert_eq!(warnings, [""; 0]);
    let (text, warnings) = spoken(&format!("zwölf, {phrases}, große"));
    assert_eq!(text, expected);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("\"zwölf\" ('ö'), \"große\" ('ß')") && warnings[0].contains("other phrases are boosted"),
        "{warnings:?}"
    );
}

/// Waits until another thread makes `condition` true.
fn wait_for(condition: impl Fn() -> bool) {
    let since = Instant::now();
    while !condition() {
        assert!(since.elapsed() < Duration::from_secs(20), "timed out");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn finish_emits_pending_text_and_continues() {
    let samples = sentences();
    let (first, second) = (pauses(&samples)[0], pauses(&samples)[1]);
    let expected = [&samples[..first], &samples[first..second]].map(|part| whole("lookahead=1040", part));
    for way in ["signal", "upstream", "downstream", "out of band"] {
        let harness = Harness::play("lookahead=1040");
        harness.speak(&samples[..first], 320);
        let structure = gst::Structure::new_empty("nemostt/finish");
        match way {
            "signal" => harness.element.emit_by_name::<()>("finish", &[]),
            "upstream" => {
                let event = gst::event::CustomUpstream::new(structure);
                assert!(harness.element.static_pad("src").unwrap().send_event(event));
            }
            "downstream" => assert!(harness.event(gst::event::CustomDownstream::new(structure))),
            _ => assert!(harness.event(gst::event::CustomDownstreamOob::new(structure))),
        }
        let seen = std::cell::RefCell::new(Vec::new());
        wait_for(|| {
            seen.borrow_mut().extend(harness.take());
            text_of(&seen.borrow()) == expected[0]
        });
        harness.speak_from(time_of(first), &samples[first..second], 320);
        harness.eos();
        assert_eq!(text_of(&harness.take()), expected[1], "{way}");
    }
}

#[test]
fn audio_without_timestamps_continues_after_finish() {
    let samples = sentences();
    let cut = pauses(&samples)[0];
    let harness = Harness::play("lookahead=480");
    let speak = |samples: &[i16]| {
        for block in samples.chunks(320) {
            harness.push(buffer(block, None)).unwrap();
        }
    };
    speak(&samples[..cut]);
    assert!(
        harness.event(gst::event::CustomDownstream::new(gst::Structure::new_empty(
            "nemostt/finish"
        )))
    );
    harness.messages();
    speak(&samples[cut..2 * cut]);
    harness.eos();
    let first = &harness.word_messages()[0];
    let start = first.get::<gst::ClockTime>("start-time").unwrap();
    assert!(start >= time_of(cut), "{start}");
}

#[test]
fn output_can_change_during_a_stall_with_late_audio() {
    let samples = sentences();
    let cut = pauses(&samples)[0] + 4_000;
    for (from, to) in [("utterances", "words"), ("words", "utterances")] {
        let properties = format!("lookahead=480 endpoint-silence=400 output={from}");
        let mut live = Live::play(&properties);
        live.speak(&samples[..cut]);
        let stalled = live.now;
        live.wait(SECOND);
        live.harness.element.set_property_from_str("output", to);
        live.wait(2 * SECOND);
        // The late audio arrives at once, with its original timestamps.
        live.harness.speak_from(stalled, &samples[cut..], 320);
        live.harness.eos();
        assert_eq!(
            text_of(&live.harness.take()),
            whole("lookahead=480", &samples),
            "{from} to {to}"
        );
    }
}

#[test]
fn max_utterance_limits_utterances() {
    let samples = sentences();
    let expected = whole("lookahead=480", &samples);
    for (property, most) in [("max-utterance=3000", 3_000), ("max-utterance-chars=20", u64::MAX)] {
        let harness = Harness::play(&format!(
            "lookahead=480 endpoint-silence=0 output=utterances {property}"
        ));
        harness.speak(&samples, 1_600);
        harness.eos();
        let found = words(&harness.take());
        assert!(found.len() > 7, "{found:?}");
        assert_eq!(text(&found), expected);
        for utterance in found {
            assert!(
                utterance.duration <= gst::ClockTime::from_mseconds(most.min(100_000)),
                "{utterance:?}"
            );
            assert!(most < u64::MAX || utterance.text.len() <= 20, "{utterance:?}");
        }
    }
}

#[test]
fn partials_contain_only_the_current_utterance() {
    let samples = sentences();
    let harness =
        Harness::play("lookahead=480 endpoint-silence=0 post-partials=true post-messages=false max-utterance=4000");
    for round in 0..3 {
        harness.speak_from(round * time_of(samples.len()), &samples, 1_600);
    }
    harness.eos();
    let longest = harness.word_messages().into_iter().map(|message| {
        let words = message.get::<gst::Array>("words").unwrap();
        words.len()
    });
    assert!(longest.max().unwrap() < 20);
}

#[test]
fn large_buffer_pushes_words_early_and_can_be_flushed() {
    let samples: Vec<i16> = sentences().repeat(20);
    let harness = std::sync::Arc::new(Harness::play("lookahead=80"));
    harness.speak(&[0; 320], 320); // waits for the model
    harness.flush();
    harness.take();
    let pusher = harness.clone();
    let thread = std::thread::spawn(move || pusher.push(buffer(&samples, Some(gst::ClockTime::ZERO))));
    wait_for(|| !harness.words().is_empty());
    assert!(!thread.is_finished());
    harness.event(gst::event::FlushStart::new());
    let result = thread.join().unwrap();
    assert_eq!(result, Err(gst::FlowError::Flushing));
    let flushed = harness.take();
    let after = flushed
        .iter()
        .position(|seen| *seen == Seen::Event(gst::EventType::FlushStart))
        .unwrap();
    assert!(
        words(&flushed[after..]).is_empty(),
        "nothing is pushed after FLUSH_START"
    );
    harness.event(gst::event::FlushStop::new(true));
    harness.segment(&gst::FormattedSegment::new());
    harness.speak(&clip_s16("u1_command"), 1_600);
    harness.eos();
    assert_eq!(text_of(&harness.take()), "turn on the kitchen light");
}

#[test]
fn hour_long_hole_can_be_interrupted() {
    let harness = std::sync::Arc::new(Harness::play("lookahead=80 gap-threshold=3600000"));
    harness.speak(&clip_s16("u1_command"), 320);
    harness.take();
    let pusher = harness.clone();
    let hour = gst::event::Gap::builder(10 * SECOND).duration(3_500 * SECOND).build();
    let thread = std::thread::spawn(move || pusher.event(hour));
    wait_for(|| harness.take().iter().any(|seen| matches!(seen, Seen::Gap { .. })));
    let since = Instant::now();
    harness.element.set_state(gst::State::Null).unwrap();
    thread.join().unwrap();
    assert!(since.elapsed() < Duration::from_secs(5), "an hour takes much longer");
}

#[test]
fn settings_changed_during_a_stall_take_effect() {
    let samples = sentences();
    let cut = pauses(&samples)[0];
    let mut live = Live::play("lookahead=80");
    live.speak(&samples[..cut]);
    live.wait(4 * SECOND);
    let before = live.harness.latency().1;
    live.harness.element.set_property_from_str("output", "utterances");
    live.wait(200 * MS);
    wait_for(|| live.harness.latency().1 > before);
    live.speak(&samples[cut..]);
    live.harness.eos();
    let seen = live.harness.take();
    let found = words(&seen);
    assert!(found.last().unwrap().text.contains(' '), "whole utterances: {found:?}");
}

#[test]
fn buffer_within_a_window_does_not_allocate() {
    let harness = Harness::play("lookahead=480");
    harness.speak(&[0; 160_000], 320);
    let mut buffers: Vec<gst::Buffer> = (0..56)
        .map(|index| buffer(&[0; 320], Some(time_of(160_000 + index * 320))))
        .collect();
    buffers.reverse();
    let mut counts = Vec::new();
    while let Some(buffer) = buffers.pop() {
        counts.push(allocation_counter::measure(|| assert!(harness.push(buffer).is_ok())).count_total);
    }
    // A window is 28 buffers; only ONNX Runtime's run and the GAP after it allocate.
    let busy = counts.iter().filter(|&&count| count > 0).count();
    assert!(busy <= 2, "{counts:?}");
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The element between two pads: words, times, messages, holes, flushes, latency.

use std::sync::{Arc, Mutex};

use gst::prelude::*;
use nemostt::DecoderKind;

use crate::{
    MS,
    child::{is_child, run_in_child},
    common::{CLIPS, Goldens, LOOKAHEADS, Texts, clip_s16, model_path},
    harness::{self, Harness, Seen, buffer, text, time_of},
    nemo_text,
};

/// Every clip gives NeMo's text at every lookahead, however the audio is cut into buffers.
fn assert_text_matches(model: &str, decoder: DecoderKind) {
    let texts = Texts::open();
    let nick = if decoder == DecoderKind::Ctc { "ctc" } else { "rnnt" };
    for lookahead in LOOKAHEADS {
        // Nonsense text has pauses within words, so words must wait for the next one.
        let harness = Harness::play(&format!(
            "model-path={} decoder={nick} lookahead={} word-hold=0 endpoint-silence=0",
            model_path(model).display(),
            lookahead * 80
        ));
        for cut in [1, 160, 1_000, 1_024, 48_000] {
            for clip in CLIPS {
                harness.speak(&clip_s16(clip), cut);
                harness.eos();
                let expected = texts.get(model, clip, lookahead, decoder);
                assert_eq!(harness.text(), expected, "{model}, {clip}, {lookahead}, {cut}");
                harness.flush();
            }
        }
    }
}

#[test]
fn rnnt_text_matches_nemo_with_demo_model() {
    assert_text_matches("trained", DecoderKind::Rnnt);
}

#[test]
fn ctc_text_matches_nemo_with_demo_model() {
    assert_text_matches("trained", DecoderKind::Ctc);
}

#[test]
fn rnnt_text_matches_nemo_with_random_weights() {
    assert_text_matches("tiny_random", DecoderKind::Rnnt);
}

#[test]
fn ctc_text_matches_nemo_with_random_weights() {
    assert_text_matches("tiny_random", DecoderKind::Ctc);
}

#[test]
fn text_matches_nemo_with_default_settings() {
    for lookahead in LOOKAHEADS {
        let harness = Harness::play(&format!("lookahead={}", lookahead * 80));
        for clip in CLIPS {
            harness.speak(&clip_s16(clip), 1_024);
            harness.eos();
            assert_eq!(harness.text(), nemo_text(clip, lookahead), "{clip}, {lookahead}");
            harness.flush();
        }
    }
}

#[test]
fn buffers_of_80_ms_cause_no_shape_error() {
    // The bug that started this project: chunks cut one by one, 9 mel frames where the graph needs 25.
    for lookahead in LOOKAHEADS {
        let harness = Harness::play(&format!("lookahead={}", lookahead * 80));
        harness.speak(&clip_s16("u2_digits"), 1_280);
        harness.eos();
        assert_eq!(harness.text(), nemo_text("u2_digits", lookahead));
    }
}

#[test]
fn word_times_are_within_a_frame_of_nemo() {
    let mut goldens = Goldens::open("trained");
    let tokens = std::fs::read_to_string(model_path("trained").join("tokens.txt")).unwrap();
    let begins: Vec<bool> = tokens.lines().map(|line| line.starts_with('\u{2581}')).collect();
    for clip in ["u1_command", "u2_digits", "u5_eight_sentences"] {
        for lookahead in LOOKAHEADS {
            // NeMo's words, from the frame of the first token to the end of the frame of the last one.
            let mut expected: Vec<(u64, u64)> = Vec::new();
            for (id, frame) in goldens.tokens(clip, lookahead) {
                match expected.last_mut() {
                    Some(word) if !begins[id] => word.1 = frame + 1,
                    _ => expected.push((frame, frame + 1)),
                }
            }
            let harness = Harness::play(&format!("lookahead={}", lookahead * 80));
            harness.speak(&clip_s16(clip), 4_096);
            harness.eos();
            let words = harness.words();
            assert_eq!(words.len(), expected.len());
            for (word, (start, end)) in words.iter().zip(expected) {
                let off = |time: gst::ClockTime, frame: u64| time.absdiff(frame * 80 * MS);
                assert!(off(word.pts, start) <= 80 * MS, "{word:?}, {start}");
                assert!(off(word.pts + word.duration, end) <= 80 * MS, "{word:?}, {end}");
            }
        }
    }
}

#[test]
fn empty_and_tiny_streams_end_without_words() {
    let harness = Harness::play("");
    harness.eos();
    assert_eq!(harness.text(), "");
    for samples in [1, 2, 159, 160, 200] {
        harness.flush();
        harness.speak(&vec![0; samples], 160);
        harness.eos();
        assert_eq!(harness.text(), "", "{samples} samples");
    }
}

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
fn demo_model_notice_is_posted_once() {
    let notices = |harness: &Harness| {
        let messages = harness
            .messages()
            .into_iter()
            .filter_map(|message| match message.view() {
                gst::MessageView::Info(info) => {
                    Some((info.error().message().to_owned(), info.debug().unwrap().to_string()))
                }
                _ => None,
            });
        messages.collect::<Vec<_>>()
    };
    // The first buffer waits for the model.
    let harness = Harness::play("");
    harness.speak(&[0; 160], 160);
    let found = notices(&harness);
    assert_eq!(found.len(), 1, "{found:?}");
    for words in [
        "demo model",
        "synthetic speech",
        "nemostt models",
        "nemostt fetch",
        "model-path",
    ] {
        assert!(found[0].0.contains(words) && found[0].1.contains(words), "{found:?}");
    }
    // The same model, in the same element.
    harness.element.set_state(gst::State::Null).unwrap();
    harness.start();
    harness.speak(&[0; 160], 160);
    assert_eq!(notices(&harness), []);

    let harness = Harness::play(&format!("model-path={}", model_path("trained").display()));
    harness.speak(&[0; 160], 160);
    assert_eq!(notices(&harness), []);
}

#[test]
fn words_are_logged_at_debug_and_partials_at_log() {
    // In a child process, because log functions and thresholds apply to all elements. Log messages allocate, too, which
    // would fail `live::properties::buffer_within_a_window_does_not_allocate`.
    if !is_child() {
        let output = run_in_child("basics::words_are_logged_at_debug_and_partials_at_log", &[]);
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

#[test]
fn flush_discards_audio_and_keeps_the_model() {
    let harness = Harness::play("lookahead=80");
    let samples = clip_s16("u1_command");
    harness.speak(&samples[..samples.len() / 2], 1_000);
    harness.flush();
    harness.take();
    harness.speak(&samples, 1_000);
    harness.eos();
    assert_eq!(harness.text(), nemo_text("u1_command", 1));
}

#[test]
fn eos_padding_completes_a_cut_off_word() {
    // The clip ends in the middle of a word; with silence after it, the model decides which one.
    let samples = clip_s16("e6_odd");
    let with = |padding: u32| {
        let harness = Harness::play(&format!("lookahead=1040 eos-padding={padding}"));
        harness.speak(&samples, 1_024);
        harness.eos();
        let words = harness.words();
        let end = time_of(samples.len());
        assert!(words.iter().all(|word| word.pts + word.duration <= end), "{words:?}");
        text(&words)
    };
    assert_eq!(with(0), nemo_text("e6_odd", 13));
    // Padding does not lose words.
    assert!(with(1_120).starts_with(&nemo_text("e6_odd", 13)), "{}", with(1_120));
}

#[test]
fn latency_is_the_sum_of_its_parts() {
    let expected = |lookahead: u64, processing: u64| (lookahead + 80 + 320 + processing) * MS + 12 * MS + MS / 2;
    let harness = Harness::new("lookahead=80 latency=0");
    // Even before the model is loaded.
    assert_eq!(harness.latency(), (false, expected(80, 0)));
    harness.set_upstream_latency(true, 20 * MS);
    assert_eq!(harness.latency(), (true, 20 * MS + expected(80, 0)));
    harness.start();
    assert_eq!(harness.latency(), (true, 20 * MS + expected(80, 0)));

    harness.messages();
    harness.element.set_property("latency", 250_u32);
    assert_eq!(harness.latency(), (true, 20 * MS + expected(80, 250)));
    let announced = harness.messages();
    assert!(
        announced
            .iter()
            .any(|message| message.type_() == gst::MessageType::Latency)
    );

    harness.element.set_property("word-hold", 0_u32);
    harness.element.set_property("endpoint-silence", 0_u32);
    assert_eq!(harness.latency().1, 20 * MS + expected(80, 250) - 320 * MS);

    // The model's own lookahead.
    assert_eq!(Harness::new("latency=0").latency().1, expected(1040, 0));
    assert_eq!(Harness::play("latency=0").latency().1, expected(1040, 0));
    // Of a model that is not loaded yet: the largest.
    let path = model_path("tiny_random");
    let other = Harness::new(&format!("latency=0 model-path={}", path.display()));
    assert_eq!(other.latency().1, expected(1040, 0));
}

#[test]
fn short_hole_is_silence() {
    let samples = clip_s16("u5_eight_sentences");
    // The first pause between sentences is cut out; timestamps jump over it.
    let (from, to) = pause(&samples);
    let harness = Harness::play("lookahead=1040 gap-threshold=2000");
    harness.speak(&samples[..from], 1_600);
    harness.speak_from(time_of(to), &samples[to..], 1_600);
    harness.eos();
    assert_eq!(harness.text(), nemo_text("u5_eight_sentences", 13));
}

#[test]
fn gap_event_is_silence() {
    let samples = clip_s16("u5_eight_sentences");
    let (from, to) = pause(&samples);
    let harness = Harness::play("lookahead=1040 gap-threshold=2000");
    harness.speak(&samples[..from], 1_600);
    let gap = gst::event::Gap::builder(time_of(from)).duration(time_of(to) - time_of(from));
    assert!(harness.event(gap.build()));
    harness.speak_from(time_of(to), &samples[to..], 1_600);
    harness.eos();
    assert_eq!(harness.text(), nemo_text("u5_eight_sentences", 13));
}

/// The quiet samples of the first pause of at least 200 ms, without 20 ms on both sides.
fn pause(samples: &[i16]) -> (usize, usize) {
    let mut quiet = 0;
    for (i, sample) in samples.iter().enumerate().skip(16_000) {
        if sample.unsigned_abs() < 100 {
            quiet += 1;
            continue;
        }
        if quiet > 3_200 {
            return ((i - quiet + 320) / 16 * 16, (i - 320) / 16 * 16);
        }
        quiet = 0;
    }
    panic!("the clip has no pause");
}

#[test]
fn long_hole_restarts_recognition() {
    let samples = clip_s16("u1_command");
    let harness = Harness::play("lookahead=480");
    harness.speak(&samples, 1_600);
    let later = gst::ClockTime::from_seconds(60);
    harness.speak_from(later, &samples, 1_600);
    harness.eos();
    let words = harness.words();
    let (first, second) = words.split_at(words.len() / 2);
    assert_eq!(text(first), nemo_text("u1_command", 6));
    assert_eq!(text(second), nemo_text("u1_command", 6));
    assert!(second[0].discont && second[0].pts >= later);
    for (a, b) in first.iter().zip(second) {
        assert_eq!(a.pts + later, b.pts);
    }
}

#[test]
fn overlapping_samples_are_skipped() {
    let samples = clip_s16("u1_command");
    let harness = Harness::play("lookahead=480");
    harness.speak(&samples[..16_000], 1_600);
    let mut again = buffer(&samples[12_000..20_000], Some(time_of(12_000)));
    again.get_mut().unwrap().set_flags(gst::BufferFlags::DISCONT);
    harness.push(again).unwrap();
    harness.speak_from(time_of(20_000), &samples[20_000..], 1_600);
    harness.eos();
    assert_eq!(harness.text(), nemo_text("u1_command", 6));
}

#[test]
fn buffers_without_timestamps_are_contiguous() {
    let harness = Harness::play("lookahead=480");
    let samples = clip_s16("u1_command");
    for block in samples.chunks(777) {
        harness.push(buffer(block, None)).unwrap();
    }
    harness.eos();
    assert_eq!(harness.text(), nemo_text("u1_command", 6));
}

#[test]
fn new_segment_finishes_words_unless_only_position_changed() {
    let harness = Harness::play("lookahead=1040");
    let samples = clip_s16("u1_command");
    harness.speak(&samples, 1_600);
    harness.take();

    let mut moved = gst::FormattedSegment::<gst::ClockTime>::new();
    moved.set_position(time_of(samples.len()));
    assert!(harness.segment(&moved));
    assert_eq!(harness.text(), "");

    let mut other = gst::FormattedSegment::<gst::ClockTime>::new();
    other.set_start(100 * gst::ClockTime::SECOND);
    other.set_time(7 * gst::ClockTime::SECOND);
    // Much later: audio cannot continue there.
    let base = 60 * gst::ClockTime::SECOND;
    other.set_base(base);
    harness.messages();
    assert!(harness.segment(&other));
    harness.speak_from(100 * gst::ClockTime::SECOND, &samples, 1_600);
    let seen = harness.take();
    let words_of_both = seen.iter().filter(|seen| matches!(seen, Seen::Word(_))).count();
    harness.eos();
    let rest = harness.words();
    let segment = seen
        .iter()
        .position(|seen| *seen == Seen::Event(gst::EventType::Segment))
        .unwrap();
    let (before, after) = seen.split_at(segment);
    let texts = |seen: &[Seen]| {
        let words = seen.iter().filter_map(|seen| match seen {
            Seen::Word(word) => Some(word.clone()),
            _ => None,
        });
        words.collect::<Vec<_>>()
    };
    let before = texts(before);
    assert!(!before.is_empty());
    assert_eq!(before.len() + texts(after).len(), words_of_both);
    let words = [texts(after), rest].concat();
    assert_eq!(text(&words), nemo_text("u1_command", 13));
    let message = &harness.word_messages()[before.len()];
    let since = words[0].pts - 100 * gst::ClockTime::SECOND;
    assert_eq!(message.get::<gst::ClockTime>("running-time").unwrap(), since + base);
    assert_eq!(
        message.get::<gst::ClockTime>("stream-time").unwrap(),
        since + 7 * gst::ClockTime::SECOND
    );
}

#[test]
fn audio_outside_the_segment_is_clipped() {
    let harness = Harness::play("lookahead=480");
    let samples = clip_s16("u1_command");
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_start(10 * gst::ClockTime::SECOND);
    assert!(harness.segment(&segment));
    // Speech before the segment begins, then the clip inside it.
    harness.speak(&samples[..32_000.min(samples.len())], 1_600);
    harness.speak_from(10 * gst::ClockTime::SECOND, &samples, 1_600);
    harness.eos();
    assert_eq!(harness.text(), nemo_text("u1_command", 6));
}

#[test]
fn properties_round_trip() {
    let element = Harness::new("").element.clone();
    element.set_property("model-path", "/somewhere");
    assert_eq!(
        element.property::<Option<String>>("model-path").as_deref(),
        Some("/somewhere")
    );
    element.set_property("model-path", "");
    assert_eq!(element.property::<Option<String>>("model-path"), None);
    for (name, value) in [
        ("threads", 3_u32),
        ("max-symbols", 5),
        ("eos-padding", 7),
        ("latency", 9),
        ("word-hold", 13),
        ("endpoint-silence", 15),
        ("lateness", 17),
        ("gap-threshold", 11),
    ] {
        element.set_property(name, value);
        assert_eq!(element.property::<u32>(name), value);
    }
    assert_eq!(element.property::<Option<String>>("separator"), None);
    element.set_property("separator", " ");
    assert_eq!(element.property::<Option<String>>("separator").as_deref(), Some(" "));
    element.set_property("lookahead", 480);
    assert_eq!(element.property::<i32>("lookahead"), 480);
    for (name, nick) in [
        ("decoder", "ctc"),
        ("device", "cpu"),
        ("output", "utterances"),
        ("overload", "skip"),
    ] {
        element.set_property_from_str(name, nick);
        let value = element.property_value(name);
        let (_, value) = gst::glib::EnumValue::from_value(&value).unwrap();
        assert_eq!(value.nick(), nick);
    }
}

#[test]
fn unsupported_caps_are_rejected() {
    let harness = Harness::new("");
    harness.element.set_state(gst::State::Playing).unwrap();
    harness.event(gst::event::StreamStart::new("test"));
    let mut caps = harness::caps();
    caps.get_mut().unwrap().set("rate", 44_100);
    harness.event(gst::event::Caps::new(&caps));
    harness.segment(&gst::FormattedSegment::new());
    assert_eq!(
        harness.push(buffer(&[0; 160], Some(gst::ClockTime::ZERO))),
        Err(gst::FlowError::NotNegotiated)
    );
    // The next stream, with the right caps, is transcribed.
    harness.event(gst::event::Caps::new(&harness::caps()));
    harness.speak(&clip_s16("u1_command"), 1_600);
    harness.eos();
    assert_eq!(harness.text(), nemo_text("u1_command", 13));
}

#[test]
fn qos_events_are_ignored() {
    let harness = Harness::play("lookahead=480 qos=true");
    let samples = clip_s16("u1_command");
    harness.speak(&samples[..8_000], 1_600);
    let src = harness.element.static_pad("src").unwrap();
    let late = gst::event::Qos::new(
        gst::QOSType::Underflow,
        0.1,
        10_000_000_000,
        Some(gst::ClockTime::from_seconds(1)),
    );
    assert!(src.send_event(late));
    harness.speak_from(time_of(8_000), &samples[8_000..], 1_600);
    harness.eos();
    assert_eq!(harness.text(), nemo_text("u1_command", 6));
}

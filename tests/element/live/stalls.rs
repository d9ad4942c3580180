// SPDX-License-Identifier: MIT OR Apache-2.0

//! Audio that arrives late, in bursts, or not at all.

use gst::prelude::*;

use super::{
    LOOKAHEADS, assert_in_time, from_file,
    live_source::{BLOCK, Live, words},
    pauses, sentences, whole,
};
use crate::{
    MS, SECOND,
    common::clip_s16,
    harness::{Harness, Seen, buffer, text, time_of},
};

/// The `stalled` fields of the `nemostt-input` messages, oldest first.
fn stalls(messages: &[gst::Message]) -> Vec<bool> {
    let structures = messages.iter().filter_map(|message| match message.view() {
        gst::MessageView::Element(element) => element.structure(),
        _ => None,
    });
    structures
        .filter(|structure| structure.name() == "nemostt-input")
        .map(|structure| structure.get("stalled").unwrap())
        .collect()
}

#[test]
fn words_are_pushed_within_the_latency_during_a_stall() {
    let samples = sentences();
    let cut = pauses(&samples)[0];
    for lookahead in LOOKAHEADS {
        let properties = format!("lookahead={lookahead}");
        let mut live = Live::play(&properties);
        live.speak(&samples[..cut]);
        live.wait(6 * SECOND);
        let words = live.words();
        assert_eq!(text(&words), whole(&properties, &samples[..cut]), "{lookahead}");
        assert_in_time(&words, live.harness.latency().1);
        // Word times are the same as from a file, although the clock advanced.
        let file = Harness::play(&properties);
        file.speak(&samples[..cut], BLOCK);
        file.eos();
        for (word, expected) in words.iter().zip(file.words()) {
            assert_eq!(
                (word.pts, word.duration),
                (expected.pts, expected.duration),
                "{lookahead}, {}",
                word.text
            );
        }
        assert_eq!(stalls(&live.harness.messages()), [true]);
    }
}

#[test]
fn endpoint_fires_without_data() {
    let samples = sentences();
    let cut = pauses(&samples)[0];
    for output in ["words", "utterances"] {
        let mut live = Live::play(&format!("lookahead=80 output={output}"));
        live.speak(&samples[..cut]);
        live.wait(3 * SECOND);
        let seen = live.harness.take();
        let ends = seen
            .iter()
            .filter(|seen| matches!(seen, Seen::Custom(name) if name == "rstranscribe/final-transcript"));
        assert_eq!(ends.count(), 1, "{output}: {seen:?}");
        assert!(!words(&seen).is_empty());
    }
}

#[test]
fn gaps_follow_the_clock_every_100_ms() {
    // The input: a stream that stalls, a stream without data, nothing at all.
    for kind in ["stalled", "announced", "nothing"] {
        let mut live = match kind {
            "nothing" => Live::silent("lookahead=1040"),
            _ => Live::play("lookahead=1040"),
        };
        if kind == "stalled" {
            live.speak(&sentences()[..32_000]);
        }
        // `wait` fails if the output falls behind the latency.
        live.wait(5 * SECOND);
        let gaps = live.harness.take().into_iter().filter_map(|seen| match seen {
            Seen::Gap { duration, .. } => Some(duration),
            _ => None,
        });
        let gaps: Vec<gst::ClockTime> = gaps.collect();
        let short = gaps.iter().filter(|&&gap| gap <= 150 * MS).count();
        assert!(short >= 20, "{kind}: {gaps:?}");
        // Then speech arrives, and is transcribed.
        let samples = clip_s16("u1_command");
        if kind == "nothing" {
            live.harness.begin();
        }
        live.speak(&samples);
        live.wait(3 * SECOND);
        assert_eq!(text(&live.words()), "turn on the kitchen light", "{kind}");
    }
}

#[test]
fn nothing_is_pushed_after_eos_or_while_flushing() {
    let mut live = Live::play("lookahead=80");
    live.speak(&sentences()[..32_000]);
    live.harness.eos();
    live.harness.take();
    live.set_time(live.now + 10 * SECOND);
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(live.harness.take(), [], "after EOS");
    live.harness.flush();
    assert!(live.harness.event(gst::event::FlushStart::new()));
    live.harness.take();
    live.set_time(live.now + 10 * SECOND);
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(live.harness.take(), [], "between flushes");
    assert!(live.harness.event(gst::event::FlushStop::new(true)));
    live.harness.take();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(live.harness.take(), [], "before a segment");
}

#[test]
fn nothing_is_pushed_in_paused() {
    let mut live = Live::play("lookahead=80");
    live.speak(&sentences()[..32_000]);
    live.harness.element.set_state(gst::State::Paused).unwrap();
    live.harness.take();
    live.set_time(live.now + 100 * SECOND);
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(live.harness.take(), []);
    // Minutes later it continues where it was.
    live.harness.element.set_base_time(200 * SECOND);
    live.set_time(live.now);
    live.harness.element.set_state(gst::State::Playing).unwrap();
}

/// The text of speech with a hole of `hole` at sample `cut`, live and from a file.
fn text_with_hole(properties: &str, samples: &[i16], cut: usize, hole: gst::ClockTime) -> (String, String) {
    let mut live = Live::play(properties);
    live.speak(&samples[..cut]);
    live.wait(hole);
    let resumed = live.now;
    live.speak(&samples[cut..]);
    live.harness.eos();
    let stretches = [(gst::ClockTime::ZERO, &samples[..cut]), (resumed, &samples[cut..])];
    (text(&live.words()), from_file(properties, &stretches))
}

#[test]
fn hole_gives_the_same_text_as_in_a_file() {
    let samples = sentences();
    for (index, cut) in pauses(&samples).into_iter().enumerate() {
        let lookahead = LOOKAHEADS[index % 4];
        for hole in [300, 700, 950, 1_500, 4_000] {
            let (live, file) = text_with_hole(&format!("lookahead={lookahead}"), &samples, cut, hole * MS);
            assert_eq!(live, file, "lookahead {lookahead}, {hole} ms at sample {cut}");
        }
    }
}

#[test]
fn long_hole_within_a_word_gives_the_same_text_as_in_a_file() {
    let samples = sentences();
    for (index, cut) in (16_000..160_000).step_by(9_920).enumerate() {
        let lookahead = LOOKAHEADS[index % 4];
        let (live, file) = text_with_hole(&format!("lookahead={lookahead}"), &samples, cut, 4 * SECOND);
        assert_eq!(live, file, "lookahead {lookahead}, at sample {cut}");
    }
}

/// The text from a source that timestamps buffers on arrival. In each `period` the network stalls for `stall`, and then
/// everything arrives at once.
fn with_arrival_timestamps(properties: &str, samples: &[i16], stall: gst::ClockTime, period: gst::ClockTime) -> String {
    let mut live = Live::play(properties);
    for (index, block) in samples.chunks(BLOCK).enumerate() {
        let due = time_of((index + 1) * BLOCK);
        let phase = gst::ClockTime::from_nseconds(due.nseconds() % period.nseconds());
        let arrives = if due > period && phase < stall {
            due - phase + stall
        } else {
            due
        };
        if arrives > live.now + 50 * MS {
            live.wait_until(arrives);
        }
        // A few microseconds between buffers of a burst.
        live.set_time(arrives.max(live.now) + 3 * gst::ClockTime::from_useconds(1));
        live.harness.push(buffer(block, Some(live.now))).unwrap();
    }
    live.harness.eos();
    text(&live.words())
}

#[test]
fn stalls_and_bursts_with_arrival_timestamps_do_not_change_the_text() {
    let samples = sentences();
    for stall in [200, 400, 600, 800, 1_000, 1_500, 2_000] {
        for lookahead in LOOKAHEADS {
            let properties = format!("lookahead={lookahead}");
            let expected = whole(&properties, &samples);
            let found = with_arrival_timestamps(&properties, &samples, stall * MS, 3 * SECOND);
            assert_eq!(found, expected, "lookahead {lookahead}, {stall} ms");
        }
    }
}

/// The digits of a text, spelled or not.
fn digits(text: &str) -> String {
    const DIGITS: [&str; 10] = [
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    ];
    let digit = |word: &str| match DIGITS.iter().position(|digit| *digit == word) {
        Some(digit) => digit.to_string(),
        None => word.to_owned(),
    };
    text.split_whitespace().map(digit).collect()
}

#[test]
fn stall_within_a_number_loses_none_of_its_words() {
    let samples = clip_s16("u2_digits");
    let file = Harness::play("lookahead=80");
    file.speak(&samples, BLOCK);
    file.eos();
    let starts = file.words().into_iter().skip(1).map(|word| word.pts);
    let starts: Vec<usize> = starts.map(|pts| pts.nseconds() as usize * 16 / 1_000_000).collect();
    assert_eq!(starts.len(), 9);
    let stalled = |properties: &str, cut: usize| {
        let mut live = Live::play(&format!("lookahead=80 endpoint-silence=2000 {properties}"));
        live.speak(&samples[..cut]);
        // What is known is pushed, as if the audio ended here.
        live.wait(3 * SECOND);
        live.harness.speak_from(time_of(cut), &samples[cut..], BLOCK);
        live.harness.eos();
        text(&live.words())
    };
    let mut divided = 0;
    for output in ["words", "utterances"] {
        for &cut in starts.iter().step_by(2) {
            let plain = stalled(&format!("output={output}"), cut);
            let shaping = format!("inverse-text-normalization=true phrase-hold=1500 output={output}");
            let shaped = stalled(&shaping, cut);
            assert_eq!(digits(&shaped), digits(&plain), "{output}, {cut}: {shaped}");
            divided += usize::from(shaped != plain);
        }
    }
    assert!(divided > 4);
}

#[test]
fn jitter_with_discont_on_every_buffer_is_ignored() {
    let samples = sentences();
    let harness = Harness::play("lookahead=480");
    for (index, block) in samples.chunks(BLOCK).enumerate() {
        // -20 to 20 ms, unordered.
        let jitter = (index * 7919) % 41;
        let pts = time_of(index * BLOCK) + (20 + jitter as u64) * MS;
        let mut buffer = buffer(block, Some(pts));
        buffer.get_mut().unwrap().set_flags(gst::BufferFlags::DISCONT);
        harness.push(buffer).unwrap();
    }
    harness.eos();
    assert_eq!(harness.text(), whole("lookahead=480", &samples));
}

#[test]
fn repeated_buffer_is_transcribed_once() {
    let samples = clip_s16("u2_digits");
    let harness = Harness::play("lookahead=480");
    for (index, block) in samples.chunks(1_600).enumerate() {
        let buffer = buffer(block, Some(time_of(index * 1_600)));
        harness.push(buffer.clone()).unwrap();
        if index % 3 == 0 {
            harness.push(buffer).unwrap();
        }
    }
    harness.eos();
    assert_eq!(harness.text(), whole("lookahead=480", &samples));
}

#[test]
fn constant_lateness_is_neither_skipped_nor_warned_about() {
    let samples = sentences();
    for overload in ["skip", "block"] {
        let properties = format!("lookahead=1040 overload={overload}");
        let mut live = Live::play(&properties);
        for (index, block) in samples.chunks(BLOCK).enumerate() {
            let pts = time_of(index * BLOCK);
            live.set_time(pts + time_of(block.len()) + 300 * MS);
            live.harness.push(buffer(block, Some(pts))).unwrap();
        }
        live.harness.eos();
        assert_eq!(text(&live.words()), whole(&properties, &samples), "{overload}");
        let messages = live.harness.messages();
        let complaints = messages.iter().filter(|message| {
            matches!(
                message.type_(),
                gst::MessageType::Warning | gst::MessageType::Error | gst::MessageType::Qos
            )
        });
        assert_eq!(complaints.count(), 0, "{overload}");
    }
}

#[test]
fn live_buffers_of_any_length_give_the_same_text_as_a_file() {
    let samples = sentences();
    for (index, length) in [160, 3_200, 8_000, 16_000].into_iter().enumerate() {
        let properties = format!("lookahead={}", LOOKAHEADS[index]);
        let mut live = Live::play(&properties);
        live.harness.set_upstream_latency(true, time_of(length));
        live.harness.latency();
        for (index, block) in samples.chunks(length).enumerate() {
            let pts = time_of(index * length);
            // Time passes while the source fills its buffer.
            live.wait_until(pts + time_of(block.len()));
            live.harness.push(buffer(block, Some(pts))).unwrap();
        }
        live.harness.eos();
        assert_eq!(text(&live.words()), whole(&properties, &samples), "{length} samples");
        assert!(stalls(&live.harness.messages()).is_empty());
    }
}

#[test]
fn withheld_audio_does_not_wait_for_more() {
    let samples = sentences();
    let cut = pauses(&samples)[0];
    let mut live = Live::play("lookahead=80");
    live.speak(&samples[..cut]);
    live.wait(600 * MS);
    // Less than a second of audio with timestamps of its arrival, and then nothing.
    for block in samples[cut..cut + 14_400].chunks(BLOCK) {
        live.set_time(live.now + 20 * MS);
        live.harness.push(buffer(block, Some(live.now))).unwrap();
    }
    live.wait(4 * SECOND);
    let found = text(&live.words());
    let expected = whole("lookahead=80", &samples[..cut + 14_400]);
    assert_eq!(
        found.split(' ').count(),
        expected.split(' ').count(),
        "{found}, {expected}"
    );
}

#[test]
fn audio_without_timestamps_after_a_jump_is_released() {
    let samples = sentences();
    let harness = Harness::play("lookahead=80");
    harness.speak(&samples[..32_000], BLOCK);
    harness.take();
    harness
        .push(buffer(&samples[32_000..32_320], Some(30 * SECOND)))
        .unwrap();
    for block in samples[32_320..96_000].chunks(BLOCK) {
        harness.push(buffer(block, None)).unwrap();
    }
    assert!(!words(&harness.take()).is_empty());
}

#[test]
fn late_long_utterance_does_not_delay_the_next() {
    let samples = sentences();
    let mut live = Live::play("lookahead=80 output=utterances endpoint-silence=2000");
    live.speak(&samples);
    live.wait(5 * SECOND);
    let command = clip_s16("u1_command");
    let spoken = live.now;
    live.speak(&command);
    live.wait(5 * SECOND);
    let found = live.words();
    let last = found.last().unwrap();
    assert_eq!(last.text, "turn on the kitchen light");
    assert!(last.pts < spoken + 5 * SECOND, "{found:?}");
}

#[test]
fn second_live_stream_without_data_gets_gaps() {
    let mut live = Live::play("lookahead=80");
    live.speak(&clip_s16("u1_command"));
    live.harness.eos();
    live.harness.take();
    assert!(live.harness.event(gst::event::StreamStart::new("another")));
    // It gets one latency's time to send data. After that, `wait` fails if the output falls behind.
    live.set_time(live.now + SECOND);
    live.wait(3 * SECOND);
    assert!(live.harness.take().iter().any(|seen| matches!(seen, Seen::Gap { .. })));
}

#[test]
fn gaps_are_not_ahead_of_sinks_with_lateness() {
    let mut live = Live::play("lookahead=80 lateness=400");
    // Of the pipeline: what the element and its source report, and a little more.
    let configured = 250 * gst::ClockTime::MSECOND;
    let source = live.harness.element.static_pad("src").unwrap();
    assert!(source.send_event(gst::event::Latency::new(configured)));
    live.speak(&clip_s16("u1_command"));
    let since = live.now;
    live.set_time(since + 5 * SECOND);
    while live.position() < live.now - configured {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    // One that is not due would block a sink.
    let ahead = live.position().saturating_sub(live.now - configured);
    assert!(ahead <= 150 * gst::ClockTime::MSECOND, "{ahead}");
    assert_eq!(text(&live.words()), "turn on the kitchen light");
}

#[test]
fn gaps_are_in_time_for_a_lower_configured_latency() {
    let mut live = Live::play("lookahead=1040 latency=4000");
    live.speak(&clip_s16("u1_command"));
    let configured = 3 * SECOND;
    let source = live.harness.element.static_pad("src").unwrap();
    assert!(source.send_event(gst::event::Latency::new(configured)));
    let since = live.now;
    live.set_time(since + 5 * SECOND);
    while live.position() < live.now - configured {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(text(&live.words()), "turn on the kitchen light");
}

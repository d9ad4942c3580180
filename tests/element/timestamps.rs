// SPDX-License-Identifier: MIT OR Apache-2.0

//! Audio that is not contiguous: holes, GAP events, overlaps, missing timestamps, new segments.

use crate::{
    common::clip_s16,
    harness::{Harness, Seen, buffer, text, time_of},
    nemo_text,
};

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

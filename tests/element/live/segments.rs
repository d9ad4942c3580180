// SPDX-License-Identifier: MIT OR Apache-2.0

//! Segments that change while audio continues, and timestamps near the limits.

use gst::prelude::*;

use super::{live_source::words, sentences, whole};
use crate::{
    MS, SECOND,
    common::clip_s16,
    harness::{Harness, Seen, buffer, caps, text, time_of},
};

type Segment = gst::FormattedSegment<gst::ClockTime>;

/// Pushes the clip in fragments of 400 ms, each after a segment that `change` modifies for the time of its first
/// sample; returns the output. `change` returns the timestamp of the fragment's first buffer.
fn fragments(change: impl Fn(&mut Segment, usize, gst::ClockTime) -> gst::ClockTime) -> Vec<Seen> {
    let harness = Harness::new("lookahead=1040");
    harness.element.set_state(gst::State::Playing).unwrap();
    harness.event(gst::event::StreamStart::new("test"));
    harness.event(gst::event::Caps::new(&caps()));
    for (index, fragment) in sentences().chunks(6_400).enumerate() {
        let mut segment = Segment::new();
        let pts = change(&mut segment, index, time_of(index * 6_400));
        assert!(harness.segment(&segment));
        for (at, block) in fragment.chunks(1_600).enumerate() {
            harness.push(buffer(block, Some(pts + time_of(at * 1_600)))).unwrap();
        }
    }
    harness.eos();
    harness.take()
}

#[test]
fn segment_with_continuous_running_time_does_not_restart() {
    let expected = whole("lookahead=1040", &sentences());
    type Change = fn(&mut Segment, usize, gst::ClockTime) -> gst::ClockTime;
    let changes: [(&str, Change); 9] = [
        ("the same", |_, _, at| at),
        ("position", |segment, _, at| {
            segment.set_position(at);
            at
        }),
        ("a duration that grows", |segment, _, at| {
            segment.set_duration(at + 400 * MS);
            at
        }),
        ("a stop that grows", |segment, _, at| {
            segment.set_stop(at + 800 * MS);
            at
        }),
        ("one per fragment", |segment, _, at| {
            segment.set_start(at);
            segment.set_time(at);
            segment.set_base(at);
            at
        }),
        ("timestamps from 0 in each", |segment, _, at| {
            segment.set_base(at);
            gst::ClockTime::ZERO
        }),
        ("timestamps an hour later in each", |segment, index, at| {
            let start = index as u64 * 3_600 * SECOND;
            segment.set_start(start);
            segment.set_base(at);
            start
        }),
        ("another stream time", |segment, index, at| {
            segment.set_time(index as u64 * 1_000 * SECOND);
            at
        }),
        ("another rate that was applied", |segment, index, at| {
            segment.set_applied_rate(1.0 + (index % 2) as f64);
            at
        }),
    ];
    for (name, change) in changes {
        // The harness fails if running time goes backward.
        let seen = fragments(change);
        assert_eq!(text(&words(&seen)), expected, "{name}");
    }
}

#[test]
fn words_have_correct_running_time_in_every_segment() {
    let times = |seen: &[Seen]| {
        words(seen)
            .into_iter()
            .map(|word| (word.text, word.running))
            .collect::<Vec<_>>()
    };
    let plain = fragments(|_, _, at| at);
    // Timestamps of each fragment begin at 0, so only the segment determines a word's running time.
    let seen = fragments(|segment, _, at| {
        segment.set_base(at);
        gst::ClockTime::ZERO
    });
    let segments = seen
        .iter()
        .filter(|seen| **seen == Seen::Event(gst::EventType::Segment))
        .count();
    assert!(segments > 10, "{segments}");
    assert_eq!(times(&seen), times(&plain));
}

#[test]
fn short_bounded_segments_are_fully_covered() {
    let harness = Harness::play("lookahead=1040");
    for (index, block) in sentences().chunks(320).enumerate() {
        let at = time_of(index * 320);
        let mut segment = Segment::new();
        segment.set_start(at);
        segment.set_stop(at + 20 * MS);
        segment.set_time(at);
        segment.set_base(at);
        assert!(harness.segment(&segment));
        harness.push(buffer(block, Some(at))).unwrap();
    }
    harness.eos();
    let mut end = gst::ClockTime::ZERO;
    let mut text = Vec::new();
    for seen in harness.take() {
        let (start, length) = match seen {
            Seen::Word(word) => {
                text.push(word.text);
                (word.pts, word.duration)
            }
            Seen::Gap { pts, duration } => (pts, duration),
            _ => continue,
        };
        assert_eq!(start, end, "timestamps equal running times here");
        end = start + length;
    }
    assert_eq!(text.join(" "), whole("lookahead=1040", &sentences()));
}

#[test]
fn distant_segment_restarts() {
    let samples = clip_s16("u1_command");
    let harness = Harness::play("lookahead=480");
    harness.speak(&samples, 1_600);
    let mut segment = Segment::new();
    segment.set_base(100 * SECOND);
    assert!(harness.segment(&segment));
    harness.speak(&samples, 1_600);
    harness.eos();
    let words = harness.words();
    assert_eq!(text(&words), "turn on the kitchen light turn on the kitchen light");
    assert!(words[5].discont);
}

#[test]
fn extreme_timestamps_do_not_panic() {
    let last = gst::ClockTime::MAX;
    let times = [
        gst::ClockTime::ZERO,
        gst::ClockTime::from_nseconds(1),
        gst::ClockTime::from_nseconds(1_000_062_501),
        gst::ClockTime::from_nseconds(i64::MAX as u64),
        gst::ClockTime::from_nseconds(i64::MAX as u64 + 1),
        last - SECOND,
        last,
    ];
    let samples = clip_s16("u1_command");
    for first in times {
        for second in times {
            for base in [gst::ClockTime::ZERO, last - SECOND] {
                let harness = Harness::new("lookahead=80 gap-threshold=2000");
                harness.element.set_state(gst::State::Playing).unwrap();
                harness.event(gst::event::StreamStart::new("test"));
                harness.event(gst::event::Caps::new(&caps()));
                let mut segment = Segment::new();
                segment.set_base(base);
                harness.segment_unchecked(&segment);
                let push = |samples: &[i16], pts, flags| {
                    let mut buffer = buffer(samples, Some(pts));
                    buffer.get_mut().unwrap().set_flags(flags);
                    let _ = harness.push(buffer);
                };
                push(&samples[..1_600], first, gst::BufferFlags::empty());
                push(&[], second, gst::BufferFlags::DISCONT);
                harness.event(gst::event::Gap::builder(second).build());
                harness.event(gst::event::Gap::builder(first).duration(last).build());
                push(&samples[..160], second, gst::BufferFlags::DISCONT);
                for _ in 0..3 {
                    push(&samples[..8_000], first, gst::BufferFlags::empty());
                }
                harness.event(gst::event::Eos::new());
                let errors = harness
                    .messages()
                    .into_iter()
                    .filter(|message| message.type_() == gst::MessageType::Error);
                assert_eq!(errors.count(), 0, "{first}, {second}, {base}");
            }
        }
    }
}

#[test]
fn gap_without_duration_and_empty_buffers_are_ignored() {
    let samples = clip_s16("u1_command");
    let harness = Harness::play("lookahead=480");
    for (index, block) in samples.chunks(1_600).enumerate() {
        let pts = time_of(index * 1_600);
        harness.push(buffer(&[], Some(pts))).unwrap();
        harness.event(gst::event::Gap::builder(pts).build());
        harness.push(buffer(block, Some(pts))).unwrap();
    }
    harness.eos();
    assert_eq!(harness.text(), "turn on the kitchen light");
}

#[test]
fn gap_over_existing_audio_is_ignored() {
    let samples = clip_s16("u2_digits");
    let harness = Harness::play("lookahead=480");
    for (index, block) in samples.chunks(1_600).enumerate() {
        let pts = time_of(index * 1_600);
        if index == 40 {
            harness.event(gst::event::Gap::builder(SECOND).duration(500 * MS).build());
        }
        harness.push(buffer(block, Some(pts))).unwrap();
    }
    harness.eos();
    assert_eq!(harness.text(), whole("lookahead=480", &samples));
}

#[test]
fn split_samples_are_joined() {
    let samples = clip_s16("u1_command");
    let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    for size in [3, 641, 4_095] {
        for with_timestamps in [false, true] {
            let harness = Harness::play("lookahead=480");
            for (index, part) in bytes.chunks(size).enumerate() {
                let mut buffer = gst::Buffer::from_slice(part.to_vec());
                if with_timestamps {
                    buffer.get_mut().unwrap().set_pts(time_of(index * size / 2));
                }
                harness.push(buffer).unwrap();
            }
            harness.eos();
            assert_eq!(harness.text(), "turn on the kitchen light", "buffers of {size} bytes");
        }
    }
}

#[test]
fn empty_stream_leaves_no_gap_for_the_next() {
    let harness = Harness::play("lookahead=80");
    harness.eos();
    harness.take();
    assert!(harness.event(gst::event::StreamStart::new("next")));
    // Pads keep the sticky segment.
    harness.push(buffer(&[0; 320], Some(gst::ClockTime::ZERO))).unwrap();
    let seen = harness.take();
    let first = |is: fn(&Seen) -> bool| seen.iter().position(is);
    let segment = first(|seen| matches!(seen, Seen::Event(gst::EventType::Segment)));
    let gap = first(|seen| matches!(seen, Seen::Gap { .. }));
    assert!(segment.is_some() && (gap.is_none() || gap > segment), "{seen:?}");
}

#[test]
fn audio_without_timestamps_begins_at_the_segment_start() {
    let samples = clip_s16("u1_command");
    let harness = Harness::play("lookahead=480");
    let mut segment = Segment::new();
    segment.set_start(70 * SECOND);
    assert!(harness.segment(&segment));
    for block in samples.chunks(1_600) {
        harness.push(buffer(block, None)).unwrap();
    }
    harness.eos();
    let words = harness.words();
    assert_eq!(text(&words), "turn on the kitchen light");
    assert!(words[0].pts > 70 * SECOND && words[0].pts < 71 * SECOND);
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Events and queries on the source pad.

use gst::prelude::*;

use crate::{
    MS, SECOND,
    common::clip_s16,
    harness::{Harness, Seen, TextBuffer, text, time_of},
};

fn source(harness: &Harness) -> gst::Pad {
    harness.element.static_pad("src").unwrap()
}

/// The output up to the GAP at the start.
fn events_up_to_first_gap(harness: &Harness) -> Vec<Seen> {
    let mut seen = Vec::new();
    while !seen.iter().any(|seen| matches!(seen, Seen::Gap { .. })) {
        seen.extend(harness.take());
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    seen
}

#[test]
fn new_stream_starts_with_a_short_gap() {
    let harness = Harness::play("");
    let seen = events_up_to_first_gap(&harness);
    let gap = Seen::Gap {
        pts: gst::ClockTime::ZERO,
        duration: 50 * MS,
    };
    assert_eq!(seen[seen.len() - 2..], [Seen::Event(gst::EventType::Segment), gap]);
}

#[test]
fn segment_event_pushes_nothing_that_may_block() {
    // GstBaseSrc holds a lock while it sends a segment: a sink that waits for the clock would block its state changes.
    let harness = Harness::play("lookahead=80");
    harness.speak(&clip_s16("u1_command"), 1_600);
    let words = harness.words();
    let mut far = gst::FormattedSegment::<gst::ClockTime>::new();
    far.set_base(100 * SECOND);
    assert!(harness.segment(&far));
    assert_eq!(harness.take(), []);
    harness.speak(&[0; 1_600], 1_600);
    harness.eos();
    assert_eq!(
        text(&[&words[..], &harness.words()].concat()),
        "turn on the kitchen light"
    );
}

#[test]
fn stream_is_sparse_text_with_its_own_id() {
    let harness = Harness::play("");
    let start = source(&harness).sticky_event::<gst::event::StreamStart>(0).unwrap();
    assert_eq!(start.stream_id(), "test/text");
    assert!(start.stream_flags().contains(gst::StreamFlags::SPARSE));
    assert_eq!(start.stream().unwrap().stream_type(), gst::StreamType::TEXT);
}

#[test]
fn audio_tags_are_dropped() {
    let harness = Harness::play("");
    events_up_to_first_gap(&harness);
    let mut tags = gst::TagList::new();
    {
        let tags = tags.make_mut();
        tags.add::<gst::tags::AudioCodec>(&"Opus", gst::TagMergeMode::Append);
        tags.add::<gst::tags::Bitrate>(&64_000, gst::TagMergeMode::Append);
        tags.add::<gst::tags::Title>(&"A talk", gst::TagMergeMode::Append);
    }
    harness.event(gst::event::Tag::new(tags));
    let sent = source(&harness).sticky_event::<gst::event::Tag>(0).unwrap();
    assert_eq!(sent.tag().n_tags(), 1);
    assert_eq!(sent.tag().get::<gst::tags::Title>().unwrap().get(), "A talk");

    harness.take();
    let mut tags = gst::TagList::new();
    tags.make_mut()
        .add::<gst::tags::AudioCodec>(&"Opus", gst::TagMergeMode::Append);
    harness.event(gst::event::Tag::new(tags));
    assert_eq!(harness.take(), []);
}

#[test]
fn position_and_duration_are_answered_in_time_format_only() {
    let harness = Harness::play("lookahead=80");
    let samples = clip_s16("u1_command");
    harness.speak(&samples, 1_600);
    let source = source(&harness);
    let position: gst::ClockTime = source.query_position().unwrap();
    let end = time_of(samples.len());
    assert!(position > SECOND && position <= end, "{position}");
    assert!(source.query_position::<gst::format::Bytes>().is_none());
    harness.set_upstream_duration(Some(77 * SECOND));
    assert_eq!(source.query_duration::<gst::ClockTime>(), Some(77 * SECOND));
    assert!(source.query_duration::<gst::format::Bytes>().is_none());
}

#[test]
fn seeking_and_formats_queries_go_upstream() {
    let harness = Harness::play("");
    let source = source(&harness);
    let mut query = gst::query::Seeking::new(gst::Format::Time);
    assert!(source.query(&mut query), "upstream answers");
    assert!(query.result().0);
    let mut query = gst::query::Formats::new();
    assert!(source.query(&mut query));
}

#[test]
fn hold_until_next_extends_text_to_the_next() {
    let samples = clip_s16("u5_eight_sentences");
    let words = |properties: &str| {
        let harness = Harness::play(properties);
        harness.speak(&samples, 1_600);
        harness.eos();
        harness.words()
    };
    let plain = words("lookahead=1040");
    let held = words("lookahead=1040 hold-until-next=true");
    let ends = |words: &[TextBuffer]| words.iter().map(|word| word.pts + word.duration).collect::<Vec<_>>();
    assert_eq!(plain.len(), held.len());
    let mut longer = 0;
    for (index, (plain_end, held_end)) in ends(&plain).into_iter().zip(ends(&held)).enumerate() {
        assert_eq!(plain[index].pts, held[index].pts);
        assert!(held_end >= plain_end && held_end <= plain_end + 3 * SECOND);
        if let Some(next) = held.get(index + 1) {
            assert!(held_end <= next.pts, "text never overlaps");
        }
        longer += usize::from(held_end > plain_end);
    }
    assert!(longer > held.len() / 2, "{longer} of {}", held.len());
}

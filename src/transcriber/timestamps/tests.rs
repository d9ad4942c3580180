// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tests of the placement of buffers.

use super::*;

const MS: gst::ClockTime = gst::ClockTime::from_mseconds(1);
const BLOCK: u64 = 160;

/// A source of 10 ms buffers in one segment.
struct Source {
    timestamps: Timestamps,
    segment: Arc<Segment>,
    count: u64,
}

impl Source {
    /// The first buffer has timestamp 1 s; more than a second of buffers with the expected timestamps follows.
    fn new() -> Self {
        gst::init().unwrap();
        let mut source = Self {
            timestamps: Timestamps::new(16_000),
            segment: Arc::default(),
            count: 0,
        };
        assert_eq!(source.align(1_000, false), Placement::First);
        for _ in 0..110 {
            assert_eq!(source.place_off(0, false), Placement::Direct);
        }
        source
    }

    fn align(&mut self, ms: u64, confirmed: bool) -> Placement {
        let arrival = Arrival {
            pts: Some(ms * MS),
            len: BLOCK,
            confirmed,
            fingerprint: Some(self.count),
        };
        let placement = self.timestamps.align(&arrival, &self.segment, self.count);
        match placement {
            Placement::First | Placement::Direct => self.count += BLOCK,
            Placement::Hole(hole) => self.count += hole + BLOCK,
            Placement::Overlap(_) | Placement::Withhold => {}
        }
        placement
    }

    /// Places a buffer whose timestamp is `off` ms off.
    fn place_off(&mut self, off: i64, confirmed: bool) -> Placement {
        let due = 1_000 + self.count / 16;
        self.align(due.saturating_add_signed(off), confirmed)
    }
}

#[test]
fn confirmed_hole_and_overlap_are_accepted() {
    let mut source = Source::new();
    assert_eq!(source.place_off(40, true), Placement::Direct);
    assert_eq!(source.place_off(-40, true), Placement::Direct);
    assert_eq!(source.place_off(50, true), Placement::Hole(800));
    assert_eq!(source.place_off(-50, true), Placement::Overlap(800));
    assert_eq!(source.timestamps.at(16_000).unwrap().pts, 2_000 * MS);
}

#[test]
fn jitter_is_ignored() {
    let mut source = Source::new();
    for off in [3, 0, -39, 7, 40, -2, 38] {
        assert_eq!(source.place_off(off, false), Placement::Direct);
    }
}

#[test]
fn small_offset_is_accepted_after_a_second_without_silence() {
    let mut source = Source::new();
    let time = |source: &Source| source.timestamps.at(source.count).unwrap().pts;
    let due = time(&source);
    for _ in 0..100 {
        assert_eq!(source.place_off(100, false), Placement::Direct);
    }
    assert_eq!(time(&source), due + 1_000 * MS);
    assert_eq!(source.place_off(100, false), Placement::Direct);
    assert_eq!(time(&source), due + 1_110 * MS, "later by the offset from now on");
}

#[test]
fn jump_is_withheld_for_a_second_and_then_a_hole() {
    let mut source = Source::new();
    let first = 1_000 + source.count / 16 + 500;
    for index in 0..100 {
        assert_eq!(source.align(first + 10 * index, false), Placement::Withhold);
        let cause = source
            .timestamps
            .jump_cause(first * MS, (first + 10 * index) * MS, index * BLOCK);
        assert_eq!(cause, (index == 99).then_some(JumpCause::Hole), "{index}");
    }
    source.timestamps.resolve(JumpCause::Hole);
    assert_eq!(source.align(first, true), Placement::Hole(8_000));
    assert_eq!(source.align(first + 10, true), Placement::Direct);
}

#[test]
fn repeated_timestamps_are_a_burst() {
    let mut source = Source::new();
    let first = 1_000 + source.count / 16 + 500;
    let causes = (0..6_u64).map(|index| {
        assert_eq!(source.align(first, false), Placement::Withhold);
        source.timestamps.jump_cause(first * MS, first * MS, index * BLOCK)
    });
    let causes: Vec<_> = causes.collect();
    assert_eq!(causes, [None, None, None, None, None, Some(JumpCause::Late)]);
    // A guess needs less.
    assert_eq!(
        source.timestamps.most_likely_cause(first * MS, first * MS, BLOCK),
        JumpCause::Late
    );
    assert_eq!(
        source
            .timestamps
            .most_likely_cause(first * MS, (first + 10) * MS, BLOCK),
        JumpCause::Hole
    );
}

#[test]
fn another_jump_during_a_burst_is_withheld() {
    let mut source = Source::new();
    assert_eq!(source.place_off(500, false), Placement::Withhold);
    source.timestamps.resolve(JumpCause::Late);
    for off in [490, 480, 470] {
        assert_eq!(source.place_off(off, false), Placement::Direct);
    }
    assert_eq!(source.place_off(900, false), Placement::Withhold);
}

#[test]
fn first_timestamp_of_a_late_buffer_is_corrected() {
    gst::init().unwrap();
    let mut source = Source {
        timestamps: Timestamps::new(16_000),
        segment: Arc::default(),
        count: 0,
    };
    // Half a second arrives at once, then each buffer when it is due.
    for _ in 0..50 {
        source.align(1_000, false);
    }
    for index in 1..10 {
        assert_eq!(source.align(1_000 + 10 * index, false), Placement::Direct);
    }
    let off = source.timestamps.at(source.count).unwrap().pts.absdiff(1_100 * MS);
    assert!(off <= 50 * MS, "{off}");
}

#[test]
fn repeated_buffer_overlaps() {
    let mut source = Source::new();
    let due = 1_000 + source.count / 16;
    let arrival = |fingerprint| Arrival {
        pts: Some(due * MS),
        len: BLOCK,
        confirmed: false,
        fingerprint: Some(fingerprint),
    };
    let segment = source.segment.clone();
    let mut place = |fingerprint, count| source.timestamps.align(&arrival(fingerprint), &segment, count);
    assert_eq!(place(1, 17_760), Placement::Direct);
    assert_eq!(place(1, 17_920 + 800), Placement::Overlap(BLOCK));
    assert_eq!(
        place(2, 17_920 + 800),
        Placement::Direct,
        "other contents with the same stamp"
    );
}

#[test]
fn repeated_buffer_offset_saturates() {
    gst::init().unwrap();
    let segment = |start, base| {
        let mut time = crate::transcriber::segment::Time::new();
        time.set_start(start);
        time.set_base(base);
        Arc::new(Segment::new(time, None))
    };
    let arrival = Arrival {
        pts: Some(gst::ClockTime::ZERO),
        len: BLOCK,
        confirmed: false,
        fingerprint: Some(1),
    };
    let mut timestamps = Timestamps::new(16_000);
    let late = segment(gst::ClockTime::ZERO, gst::ClockTime::from_nseconds(i64::MAX as u64));
    let early = segment(gst::ClockTime::from_nseconds(i64::MAX as u64), gst::ClockTime::ZERO);
    assert_eq!(timestamps.align(&arrival, &late, 0), Placement::First);
    assert_eq!(timestamps.align(&arrival, &early, BLOCK), Placement::Overlap(BLOCK));
}

#[test]
fn buffers_without_timestamps_are_contiguous_from_the_segment_start() {
    gst::init().unwrap();
    let mut time = super::super::segment::Time::new();
    time.set_start(7_000 * MS);
    let segment = Arc::new(Segment::new(time, None));
    let arrival = Arrival {
        pts: None,
        len: BLOCK,
        confirmed: false,
        fingerprint: None,
    };
    let mut timestamps = Timestamps::new(16_000);
    assert_eq!(timestamps.align(&arrival, &segment, 0), Placement::First);
    assert_eq!(timestamps.align(&arrival, &segment, BLOCK), Placement::Direct);
    assert_eq!(timestamps.at(BLOCK).unwrap().pts, 7_010 * MS);
}

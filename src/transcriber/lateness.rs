// SPDX-License-Identifier: MIT OR Apache-2.0

//! Measures whether computing keeps up with a live source.
//!
//! Late timestamps alone say little: a source may be late by a constant, and a network may stall. What counts is the
//! time that computing takes. Its backlog behaves like that of a queue: it grows while steps take longer than their
//! audio lasts, and shrinks, down to zero, while they do not. It is limited to the amount by which timestamps are later
//! now than they were at their earliest.

use std::time::Duration;

use super::{
    enums::NemoSttOverload,
    segment::{clock_time, signed},
};

/// Once audio is being skipped, it is skipped until the delay is no larger than this.
const CAUGHT_UP_MARGIN: gst::ClockTime = gst::ClockTime::from_mseconds(20);

/// Tracks how far computing is behind a live source.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    /// Whether upstream is live, and its minimum latency, from the last LATENCY query.
    upstream: Option<(bool, gst::ClockTime)>,
    /// Latency that sinks wait for, from the last LATENCY event.
    configured: Option<gst::ClockTime>,
    /// By how much computing has taken longer than the audio lasts.
    backlog: gst::ClockTime,
    /// Smallest lateness of a timestamp so far, in nanoseconds; negative if audio arrives sooner than upstream's
    /// latency.
    earliest: Option<i64>,
    max_delay: gst::ClockTime,
    /// Whether the delay exceeded the allowance, which was reported, and has not been made up since.
    late: bool,
    /// How often that happened.
    overloads: u64,
    /// Audio that was skipped.
    skipped: gst::ClockTime,
}

/// How far computing was and is behind a live source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overload {
    /// How often the delay exceeded the allowance.
    pub(super) count: u64,
    /// Running time of the audio that was skipped.
    pub(super) skipped: gst::ClockTime,
    /// The delay at the last buffer.
    pub(super) delay: gst::ClockTime,
    /// The largest delay.
    pub(super) max_delay: gst::ClockTime,
}

/// What to do with a buffer, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct LatenessReport {
    /// Skip the buffer.
    pub(super) skip: bool,
    /// Warn that computing does not keep up; set once per overload.
    pub(super) warn: bool,
    /// The maximum delay grew.
    pub(super) grew: bool,
    /// How far computing is behind.
    pub(super) delay: gst::ClockTime,
}

impl Lateness {
    /// Stores upstream's answer to a LATENCY query.
    pub(super) fn set_upstream(&mut self, live: bool, latency: gst::ClockTime) {
        self.upstream = Some((live, latency));
    }

    /// Stores the pipeline's latency from a LATENCY event.
    pub(super) fn set_configured(&mut self, latency: gst::ClockTime) {
        self.configured = Some(latency);
    }

    /// Latency that sinks wait for, if known.
    pub(super) fn configured(&self) -> Option<gst::ClockTime> {
        self.configured
    }

    /// Whether upstream is live, and its minimum latency, if known.
    pub(super) fn upstream(&self) -> Option<(bool, gst::ClockTime)> {
        self.upstream
    }

    /// Maximum delay behind a live source so far.
    pub(super) fn max_delay(&self) -> gst::ClockTime {
        self.max_delay
    }

    /// What there has been since the element was started.
    pub(super) fn overload(&self) -> Overload {
        Overload {
            count: self.overloads,
            skipped: self.skipped,
            delay: self.backlog,
            max_delay: self.max_delay,
        }
    }

    /// Records that audio with a running time of `audio` was skipped.
    pub(super) fn skipped(&mut self, audio: gst::ClockTime) {
        self.skipped = self.skipped.saturating_add(audio);
    }

    /// Records that computing took `time` for audio with a running time of `audio`.
    pub(super) fn computed(&mut self, time: Duration, audio: gst::ClockTime) {
        let time = clock_time(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        self.backlog = self.backlog.saturating_add(time).saturating_sub(audio);
    }

    /// Assesses a buffer that ends at running time `end` and is about to be processed at running time `now`. Without a
    /// clock, or if the source is not live, no buffer is late.
    pub(super) fn assess(
        &mut self,
        end: i64,
        now: Option<gst::ClockTime>,
        allowance: gst::ClockTime,
        overload: NemoSttOverload,
    ) -> LatenessReport {
        let live_upstream = self.upstream.filter(|(live, _)| *live);
        let Some((now, (_, upstream))) = now.zip(live_upstream) else {
            return LatenessReport::default();
        };
        let late = signed(now).saturating_sub(end).saturating_sub(signed(upstream));
        let earliest = self.earliest.map_or(late, |earliest| earliest.min(late));
        self.earliest = Some(earliest);
        let since = clock_time(late.saturating_sub(earliest).unsigned_abs());
        let delay = self.backlog.min(since);
        self.backlog = delay;
        let grew = delay > self.max_delay;
        self.max_delay = self.max_delay.max(delay);
        let was_late = self.late;
        self.late = delay > allowance || (self.late && delay > CAUGHT_UP_MARGIN);
        let is_new = self.late && !was_late;
        self.overloads += u64::from(is_new);
        LatenessReport {
            skip: overload == NemoSttOverload::Skip && self.late,
            warn: is_new,
            grew,
            delay,
        }
    }

    /// Starts measuring from zero after a flush or pause: the clock may have jumped, and upstream's queues may be
    /// empty.
    pub(super) fn reset(&mut self) {
        self.backlog = gst::ClockTime::ZERO;
        self.earliest = None;
        self.late = false;
    }

    /// Clears everything, including the maximum delay.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: gst::ClockTime = gst::ClockTime::from_mseconds(1);

    /// A live source of 20 ms buffers that arrive `late` ms late and take `computing` ms each.
    struct Source {
        lateness: Lateness,
        overload: NemoSttOverload,
        end: u64,
    }

    impl Source {
        fn new(overload: NemoSttOverload) -> Self {
            let mut lateness = Lateness::default();
            lateness.set_upstream(true, 20 * MS);
            let mut source = Self {
                lateness,
                overload,
                end: 1_000,
            };
            source.buffer(0, 0);
            source
        }

        fn buffer(&mut self, late: u64, computing: u64) -> LatenessReport {
            self.end += 20;
            let now = (self.end + 20 + late) * MS;
            let end = signed(self.end * MS);
            let report = self.lateness.assess(end, Some(now), 100 * MS, self.overload);
            let took = if report.skip { 0 } else { computing };
            self.lateness.computed(Duration::from_millis(took), 20 * MS);
            report
        }
    }

    #[test]
    fn non_live_source_is_never_late() {
        let mut lateness = Lateness::default();
        lateness.computed(Duration::from_secs(5), MS);
        let skip = NemoSttOverload::Skip;
        let report = |lateness: &mut Lateness| lateness.assess(0, Some(5_000 * MS), 100 * MS, skip);
        assert_eq!(report(&mut lateness), LatenessReport::default());
        lateness.set_upstream(false, 20 * MS);
        assert_eq!(report(&mut lateness), LatenessReport::default());
    }

    #[test]
    fn constant_lateness_is_not_overload() {
        let mut source = Source::new(NemoSttOverload::Skip);
        for _ in 0..100 {
            let report = source.buffer(5_000, 1);
            assert!(
                !report.skip && !report.warn && report.delay == gst::ClockTime::ZERO,
                "{report:?}"
            );
        }
        assert_eq!(source.lateness.max_delay(), gst::ClockTime::ZERO);
    }

    #[test]
    fn slow_computing_without_late_timestamps_is_not_overload() {
        // A queue upstream that was not full makes up for one long step.
        let mut source = Source::new(NemoSttOverload::Skip);
        for _ in 0..10 {
            assert_eq!(source.buffer(0, 30).delay, gst::ClockTime::ZERO);
        }
    }

    #[test]
    fn overload_warns_once_per_occurrence() {
        let mut source = Source::new(NemoSttOverload::Block);
        let mut warnings = Vec::new();
        for round in 0..2 {
            for i in 1..=10 {
                if source.buffer(i * 20, 40).warn {
                    warnings.push((round, i));
                }
            }
            for i in (0..10).rev() {
                assert!(!source.buffer(i * 20, 0).warn);
            }
        }
        assert_eq!(warnings, [(0, 7), (1, 7)]);
        assert_eq!(source.lateness.max_delay(), 180 * MS);
        // A pause or flush does not change what has been.
        source.lateness.reset();
        source.lateness.skipped(40 * MS);
        let expected = Overload {
            count: 2,
            skipped: 40 * MS,
            delay: gst::ClockTime::ZERO,
            max_delay: 180 * MS,
        };
        assert_eq!(source.lateness.overload(), expected);
    }

    #[test]
    fn skipping_ends_when_computing_has_caught_up() {
        let mut source = Source::new(NemoSttOverload::Skip);
        source.buffer(0, 300);
        let skipped: Vec<bool> = (0..20)
            .map(|i| source.buffer(280 - (i * 20).min(280), 1).skip)
            .collect();
        let first = skipped.iter().position(|&skip| skip).unwrap();
        let count = skipped.iter().filter(|&&skip| skip).count();
        assert_eq!(first, 0);
        assert!((10..=14).contains(&count), "{skipped:?}");
        assert!(!skipped[19], "no longer skipped once caught up");
    }
}

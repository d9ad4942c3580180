// SPDX-License-Identifier: MIT OR Apache-2.0

//! A TIME segment of the input, with conversions between timestamps and running time that saturate at the limits.

use std::ops::Deref;

/// GStreamer's type for it.
pub(super) type Time = gst::FormattedSegment<gst::ClockTime>;

/// A segment with the sequence number of its event.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    time: Time,
    seqnum: Option<gst::Seqnum>,
    /// Segments of a stream are numbered in order of arrival.
    pub(super) number: u64,
}

impl Default for Segment {
    fn default() -> Self {
        Self {
            time: Time::new(),
            seqnum: None,
            number: 0,
        }
    }
}

impl Deref for Segment {
    type Target = Time;

    fn deref(&self) -> &Time {
        &self.time
    }
}

impl Segment {
    pub(super) fn new(time: Time, seqnum: Option<gst::Seqnum>) -> Self {
        Self {
            time,
            seqnum,
            number: 0,
        }
    }

    /// Timestamp at which the segment begins.
    pub(super) fn start(&self) -> gst::ClockTime {
        self.time.start().unwrap_or_default()
    }

    pub(super) fn is_reverse(&self) -> bool {
        self.time.rate() < 0.0
    }

    /// Running time of `pts` in nanoseconds; negative before the segment.
    pub(super) fn running(&self, pts: gst::ClockTime) -> i64 {
        match self.time.to_running_time_full(pts) {
            Some(gst::Signed::Positive(time)) => signed(time),
            Some(gst::Signed::Negative(time)) => -signed(time),
            None => 0,
        }
    }

    /// The timestamp at `running` nanoseconds of running time; the segment's start for times before it.
    pub(super) fn at_running(&self, running: i64) -> gst::ClockTime {
        let Ok(running) = u64::try_from(running) else {
            return self.start();
        };
        match self.time.position_from_running_time_full(clock_time(running)) {
            Some(gst::Signed::Positive(pts)) => pts.max(self.start()),
            _ => self.start(),
        }
    }

    /// Running time of `duration` at the segment's rate.
    pub(super) fn running_duration(&self, duration: gst::ClockTime) -> gst::ClockTime {
        match self.time.rate().abs() {
            1.0 => duration,
            rate => clock_time((duration.nseconds() as f64 / rate) as u64),
        }
    }

    /// Whether timestamps map to the same running time in both segments.
    pub(super) fn runs_as(&self, other: &Time) -> bool {
        self.time.rate() == other.rate() && {
            // With equal rates any one timestamp decides; this one is in both segments if they overlap.
            let pts = self.start().max(other.start().unwrap_or_default());
            let other = Self::new(other.clone(), None);
            self.running(pts) == other.running(pts)
        }
    }

    /// The SEGMENT event, with running times shifted by `lateness`.
    pub(super) fn event(&self, lateness: gst::ClockTime) -> gst::Event {
        let mut shifted = self.time.clone();
        shifted.set_base(self.time.base().unwrap_or_default().saturating_add(lateness));
        let event = gst::event::Segment::builder(&shifted);
        match self.seqnum {
            Some(seqnum) => event.seqnum(seqnum).build(),
            None => event.build(),
        }
    }
}

/// `ns` nanoseconds as a `ClockTime`, saturating.
pub(super) fn clock_time(ns: u64) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(ns.min(gst::ClockTime::MAX.nseconds()))
}

/// `time` in nanoseconds, saturating.
pub(super) fn signed(time: gst::ClockTime) -> i64 {
    i64::try_from(time.nseconds()).unwrap_or(i64::MAX)
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Decides where a buffer of audio belongs in the stream: directly after the previous samples, after a hole, or
//! overlapping them.
//!
//! Arrival time is not capture time. Sources that timestamp buffers on arrival (`do-timestamp=true`) produce wrong
//! timestamps whenever the network stalls, although no sample is missing. So the sample count takes precedence. A
//! timestamp that is
//!
//! * off by up to [`ALIGNMENT_THRESHOLD`] is jitter;
//! * off by more, and confirmed by a DISCONT flag, a GAP event or a new segment, is accepted at once;
//! * ahead by more than [`MAX_JITTER`] without confirmation causes audio to be [withheld](Placement::Withhold) until
//!   the cause is clear. If timestamps fall back to the sample count, it was a burst after a stall; if they stay off
//!   for [`DISCONT_WAIT`], there is a hole;
//! * behind, before a second of audio has had matching timestamps, shows that the first timestamp was that of a late
//!   buffer. This one is closer to the truth, and accepted;
//! * off otherwise is ignored: the audio counts as contiguous. Once timestamps have been off by the same amount for
//!   [`DISCONT_WAIT`], they are accepted from there on, without inserting silence or dropping samples.

use std::{collections::VecDeque, sync::Arc};

use super::segment::{Segment, clock_time, signed};
use nemostt::sample_time;

/// Timestamps may be off by this much, in nanoseconds, as in other GStreamer audio elements (`GstAudioBaseSink`'s
/// `alignment-threshold`).
const ALIGNMENT_THRESHOLD: i64 = 40_000_000;
/// Timestamps must be off for this long, in nanoseconds, before they are accepted (`GstAudioBaseSink`'s
/// `discont-wait`).
const DISCONT_WAIT: i64 = 1_000_000_000;
/// Drift and jitter of a clock are less than this, in nanoseconds. A larger jump may be a hole, which is filled with
/// silence.
const MAX_JITTER: i64 = 160_000_000;

/// A moment of the stream: a timestamp and the segment that it refers to.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    pub(super) pts: gst::ClockTime,
    pub(super) segment: Arc<Segment>,
}

impl Moment {
    /// Running time in nanoseconds; negative before the segment.
    pub(super) fn running(&self) -> i64 {
        self.segment.running(self.pts)
    }
}

/// Where a buffer belongs relative to the previous samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placement {
    /// It is the first buffer of the stream.
    First,
    /// Directly after them.
    Direct,
    /// After a hole of this many samples.
    Hole(u64),
    /// This many of its first samples overlap previous ones.
    Overlap(u64),
    /// Not known yet: it must be placed again, with all other withheld buffers, once [`Timestamps::jump_cause`] returns a
    /// cause.
    Withhold,
}

/// A buffer or gap to place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) pts: Option<gst::ClockTime>,
    /// Length in samples.
    pub(super) len: u64,
    /// Whether something besides the timestamp confirms a jump in time.
    pub(super) confirmed: bool,
    /// Hash of the contents, to recognize a buffer that is sent twice.
    pub(super) fingerprint: Option<u64>,
}

/// Why timestamps jumped ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JumpCause {
    /// There is a hole: place what was withheld by its timestamps.
    Hole,
    /// The audio was late, but nothing is missing: place what was withheld without its timestamps.
    Late,
}

/// Maps samples from `sample` on to the time from `moment` on.
#[derive(Debug, Clone)]
struct Anchor {
    sample: u64,
    moment: Moment,
}

/// Timestamps that are off and not accepted yet.
#[derive(Debug, Clone, Copy)]
struct SuspectTimestamps {
    /// How far off they were initially, in nanoseconds; positive after a hole.
    reference: i64,
    /// Duration of the audio since then, in nanoseconds.
    seen: i64,
    /// Whether audio is withheld until the cause is clear.
    withholds: bool,
}

/// Maps samples to times, and compares timestamps with the sample count. The count takes precedence, as it does not
/// drift.
#[derive(Debug)]
pub(super) struct Timestamps {
    rate: u32,
    anchors: VecDeque<Anchor>,
    suspect: Option<SuspectTimestamps>,
    /// Duration of audio with the expected timestamps, in nanoseconds, up to [`DISCONT_WAIT`].
    agreed: i64,
    /// Where the previous stream ended, if this one follows it.
    end_before: Option<Moment>,
    /// Timestamp, length and fingerprint of the previous buffer, if its timestamp was as expected.
    last: Option<(gst::ClockTime, u64, u64)>,
}

impl Timestamps {
    pub(super) fn new(rate: u32) -> Self {
        Self {
            rate,
            anchors: VecDeque::new(),
            suspect: None,
            agreed: 0,
            end_before: None,
            last: None,
        }
    }

    /// Duration of `samples` samples.
    pub(super) fn duration(&self, samples: u64) -> gst::ClockTime {
        clock_time(sample_time::samples_to_ns(samples, self.rate))
    }

    /// Number of samples in `duration`.
    pub(super) fn samples(&self, duration: gst::ClockTime) -> u64 {
        sample_time::ns_to_samples(duration.nseconds(), self.rate)
    }

    /// The moment of sample `sample`; `None` before the first buffer.
    pub(super) fn at(&self, sample: u64) -> Option<Moment> {
        let after = self.anchors.partition_point(|anchor| anchor.sample <= sample);
        let anchor = self.anchors.get(after.saturating_sub(1))?;
        Some(self.from(anchor, sample))
    }

    /// The moments of samples `start` and `end`, both in the segment of `start`.
    pub(super) fn span(&self, start: u64, end: u64) -> Option<(Moment, gst::ClockTime)> {
        let first = self.at(start)?;
        let last = self.at(end)?;
        let until = match Arc::ptr_eq(&first.segment, &last.segment) && last.pts >= first.pts {
            true => last.pts,
            false => first.pts.saturating_add(self.duration(end.saturating_sub(start))),
        };
        Some((first, until))
    }

    /// The sample at running time `running`, in nanoseconds; extrapolated beyond the last one.
    pub(super) fn sample_at(&self, running: i64) -> u64 {
        let before = self
            .anchors
            .iter()
            .rev()
            .find(|anchor| anchor.moment.running() <= running);
        before.map_or(0, |anchor| {
            let pts = anchor.moment.segment.at_running(running);
            anchor
                .sample
                .saturating_add(self.samples(pts.saturating_sub(anchor.moment.pts)))
        })
    }

    fn from(&self, anchor: &Anchor, sample: u64) -> Moment {
        let since = self.duration(sample.saturating_sub(anchor.sample));
        Moment {
            pts: anchor.moment.pts.saturating_add(since),
            segment: anchor.moment.segment.clone(),
        }
    }

    /// Forgets the times of samples before `sample`.
    pub(super) fn forget_before(&mut self, sample: u64) {
        while self.anchors.get(1).is_some_and(|next| next.sample <= sample) {
            self.anchors.pop_front();
        }
    }

    /// Decides where `arrival`, timestamped in `segment`, belongs after `count` samples.
    pub(super) fn align(&mut self, arrival: &Arrival, segment: &Arc<Segment>, count: u64) -> Placement {
        let Some(expected) = self.anchors.back().map(|anchor| self.from(anchor, count)) else {
            // Without a timestamp, audio begins where the previous stream ended, or at the start of the segment.
            let after = self.end_before.as_ref().map(|end| segment.at_running(end.running()));
            let pts = arrival.pts.or(after).unwrap_or_else(|| segment.start());
            self.begin(pts, segment);
            self.remember(arrival);
            return Placement::First;
        };
        let Some(pts) = arrival.pts else {
            // Without a timestamp, a buffer follows the previous one, and is withheld if that one was.
            let length = signed(self.duration(arrival.len));
            return match self.suspect.as_mut().filter(|suspect| suspect.withholds) {
                Some(suspect) => {
                    suspect.seen = suspect.seen.saturating_add(length);
                    Placement::Withhold
                }
                None => Placement::Direct,
            };
        };
        let repeated = self.is_repeated(pts, arrival);
        let is_new_segment = !Arc::ptr_eq(&expected.segment, segment);
        let offset = match is_new_segment {
            true => segment.running(pts).saturating_sub(expected.running()),
            false => signed(pts).saturating_sub(signed(expected.pts)),
        };
        // Off by at least half its length; less would be jitter.
        if repeated && offset.unsigned_abs().saturating_mul(2) >= self.duration(arrival.len).nseconds() {
            return Placement::Overlap(arrival.len);
        }
        if offset.unsigned_abs() <= ALIGNMENT_THRESHOLD as u64 {
            self.suspect = None;
            self.agreed = self
                .agreed
                .saturating_add(signed(self.duration(arrival.len)))
                .min(DISCONT_WAIT);
            self.remember(arrival);
            if is_new_segment {
                self.anchor(count, pts, segment);
            }
            return Placement::Direct;
        }
        self.last = None;
        if arrival.confirmed || is_new_segment {
            self.suspect = None;
            if is_new_segment {
                self.enter(offset, pts, segment, count);
            }
            return self.accept_timestamp(offset);
        }
        if offset < 0 && self.agreed < DISCONT_WAIT {
            self.suspect = None;
            self.anchor(count, pts, segment);
            return Placement::Direct;
        }
        self.observe(offset, pts, arrival.len, segment, count)
    }

    /// The placement of a buffer whose timestamp is off by `offset` nanoseconds and accepted.
    fn accept_timestamp(&self, offset: i64) -> Placement {
        let off = self.samples(clock_time(offset.unsigned_abs()));
        match offset > 0 {
            true => Placement::Hole(off),
            false => Placement::Overlap(off),
        }
    }

    /// Continues in a new segment: after the hole, or after the overlapping samples.
    fn enter(&mut self, offset: i64, pts: gst::ClockTime, segment: &Arc<Segment>, count: u64) {
        match self.accept_timestamp(offset) {
            Placement::Hole(missing) => self.anchor(count.saturating_add(missing), pts, segment),
            Placement::Overlap(overlap) => self.anchor(count, pts.saturating_add(self.duration(overlap)), segment),
            Placement::First | Placement::Direct | Placement::Withhold => {}
        }
    }

    /// Observes timestamps that are off, but not confirmed.
    fn observe(&mut self, offset: i64, pts: gst::ClockTime, len: u64, segment: &Arc<Segment>, count: u64) -> Placement {
        let length = signed(self.duration(len));
        let fresh = SuspectTimestamps {
            reference: offset,
            seen: 0,
            withholds: offset > MAX_JITTER,
        };
        let suspect = self.suspect.get_or_insert(fresh);
        if !suspect.withholds && offset.saturating_sub(suspect.reference) > MAX_JITTER {
            *suspect = fresh;
        }
        if suspect.withholds {
            suspect.seen = suspect.seen.saturating_add(length);
            return Placement::Withhold;
        }
        if offset.saturating_sub(suspect.reference).unsigned_abs() > ALIGNMENT_THRESHOLD as u64 {
            *suspect = SuspectTimestamps {
                reference: offset,
                seen: length,
                withholds: false,
            };
        } else {
            suspect.seen = suspect.seen.saturating_add(length);
        }
        if suspect.seen > DISCONT_WAIT {
            self.suspect = None;
            self.anchor(count, pts, segment);
        }
        Placement::Direct
    }

    /// Why timestamps of withheld audio jumped. `first` and `last` are the timestamps of the first and the last
    /// withheld buffer, `between` the samples from the start of the first to that of the last. `None` while it is too
    /// early to tell.
    pub(super) fn jump_cause(&self, first: gst::ClockTime, last: gst::ClockTime, between: u64) -> Option<JumpCause> {
        let suspect = self.suspect.as_ref().filter(|suspect| suspect.withholds)?;
        if self.offset_reduction(first, last, between) > ALIGNMENT_THRESHOLD {
            return Some(JumpCause::Late);
        }
        (suspect.seen >= DISCONT_WAIT).then_some(JumpCause::Hole)
    }

    /// Like [`jump_cause`](Self::jump_cause), but returns the likelier cause if it is too early to tell.
    pub(super) fn most_likely_cause(&self, first: gst::ClockTime, last: gst::ClockTime, between: u64) -> JumpCause {
        match self.offset_reduction(first, last, between).saturating_mul(2) > signed(self.duration(between)) {
            true => JumpCause::Late,
            false => JumpCause::Hole,
        }
    }

    /// By how much timestamps have moved toward the sample count, in nanoseconds. After a hole they advance with the
    /// samples; after a stall they stand still until the burst is over.
    fn offset_reduction(&self, first: gst::ClockTime, last: gst::ClockTime, between: u64) -> i64 {
        let stamped = signed(last).saturating_sub(signed(first));
        signed(self.duration(between)).saturating_sub(stamped)
    }

    /// Ends withholding: audio is about to be placed according to `cause`.
    pub(super) fn resolve(&mut self, cause: JumpCause) {
        if let Some(suspect) = &mut self.suspect {
            match cause {
                JumpCause::Hole => self.suspect = None,
                // Keep observing the timestamps, but treat the audio as contiguous.
                JumpCause::Late => suspect.withholds = false,
            }
        }
    }

    /// Whether this buffer repeats the previous one: same timestamp, same contents. The timestamp alone is not enough,
    /// as buffers of a burst may share it.
    fn is_repeated(&self, pts: gst::ClockTime, arrival: &Arrival) -> bool {
        self.last
            .zip(arrival.fingerprint)
            .is_some_and(|(last, fingerprint)| last == (pts, arrival.len, fingerprint))
    }

    fn remember(&mut self, arrival: &Arrival) {
        self.last = arrival
            .pts
            .zip(arrival.fingerprint)
            .map(|(pts, fingerprint)| (pts, arrival.len, fingerprint));
    }

    fn begin(&mut self, pts: gst::ClockTime, segment: &Arc<Segment>) {
        self.reset(None);
        self.anchor(0, pts, segment);
    }

    fn anchor(&mut self, sample: u64, pts: gst::ClockTime, segment: &Arc<Segment>) {
        let moment = Moment {
            pts,
            segment: segment.clone(),
        };
        self.anchors.push_back(Anchor { sample, moment });
    }

    /// Forgets all earlier input.
    pub(super) fn forget(&mut self) {
        *self = Self::new(self.rate);
    }

    /// Starts a new stream, which follows one that ended at `end`, if any.
    pub(super) fn reset(&mut self, end: Option<Moment>) {
        self.end_before = end.or(self.end_before.take());
        self.anchors.clear();
        self.suspect = None;
        self.agreed = 0;
        self.last = None;
    }
}

#[cfg(test)]
mod tests;

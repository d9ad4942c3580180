// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where a buffer of audio belongs in the stream: directly after the samples before it, after a hole, over them.
//!
//! Arrival is not time. Sources that stamp buffers as they arrive (`do-timestamp=true`) give stamps that are off whenever
//! the network stalls, although no sample is missing. So the count of samples wins over the stamps:
//!
//! * up to [`ALIGNMENT_THRESHOLD`] off: jitter;
//! * off, and a DISCONT, a GAP event or a segment vouches for it: believed at once;
//! * ahead by more than [`MAX_JITTER`] without a voucher: audio is [withheld](Placement::Withhold) until it is clear what the
//!   stamps say. If they fall back to the count, it was a burst after a stall; if they stay off for [`DISCONT_WAIT`], there is a
//!   hole;
//! * behind, before any second of audio had stamps that were right: the first stamp was that of a late buffer, and this one is
//!   nearer to the truth;
//! * off otherwise: audio is taken as it comes. Once the stamps have been off by the same amount for [`DISCONT_WAIT`], they are
//!   believed from there on, without any silence and without dropping a sample.

use std::{collections::VecDeque, sync::Arc};

use super::segment::Segment;
use nemostt::sample_time;

/// Bytes of one sample: S16LE, mono.
pub(super) const BYTES_PER_SAMPLE: usize = 2;
/// Timestamps may be off by this much, as every GStreamer audio element allows (`GstAudioBaseSink`'s alignment threshold).
const ALIGNMENT_THRESHOLD: i64 = 40_000_000;
/// Stamps must be off for this long before they are believed (`GstAudioBaseSink`'s `discont-wait`).
const DISCONT_WAIT: i64 = 1_000_000_000;
/// Drift and jitter of a clock are less than this; a jump by more may be a hole, which is silence if it is one.
const MAX_JITTER: i64 = 160_000_000;

/// A moment of the stream: a timestamp and the segment that gives it a meaning.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    pub(super) pts: gst::ClockTime,
    pub(super) segment: Arc<Segment>,
}

impl Moment {
    /// In nanoseconds of running time, which may be before the segment begins.
    pub(super) fn running(&self) -> i64 {
        self.segment.running(self.pts)
    }
}

/// How a buffer follows the samples before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placement {
    /// It is the first one.
    First,
    /// Without a hole.
    Direct,
    /// After a hole of this many samples.
    Hole(u64),
    /// Its first samples, this many, were given before.
    Overlap(u64),
    /// Not known yet: it must be placed again, with all that were withheld, when [`Timestamps::watched`] says so.
    Withhold,
}

/// What is to be placed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) pts: Option<gst::ClockTime>,
    /// Samples.
    pub(super) len: u64,
    /// Whether more than the stamp says that time jumped.
    pub(super) confirmed: bool,
    /// Identifies the contents, to tell a buffer that is sent twice.
    pub(super) fingerprint: Option<u64>,
}

/// What became of stamps that are off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JumpCause {
    /// There is a hole: place what was withheld, and believe the stamps.
    Hole,
    /// The audio was late, and nothing is missing: place what was withheld without its stamps.
    Late,
}

/// From a sample on, time goes on from a moment.
#[derive(Debug, Clone)]
struct Anchor {
    sample: u64,
    moment: Moment,
}

/// Stamps that are off and not believed yet.
#[derive(Debug, Clone, Copy)]
struct SuspectTimestamps {
    /// By how much they were off in the beginning, in nanoseconds of audio: more than 0 after a hole.
    reference: i64,
    /// Audio since then.
    seen: i64,
    withholds: bool,
}

/// Compares timestamps with the number of samples. The count wins: it does not drift.
#[derive(Debug)]
pub(super) struct Timestamps {
    rate: u32,
    anchors: VecDeque<Anchor>,
    watch: Option<SuspectTimestamps>,
    /// Audio whose stamps were as expected, up to [`DISCONT_WAIT`].
    agreed: i64,
    /// Where the stream before ended, if this one follows it.
    end_before: Option<Moment>,
    /// Stamp and contents of the buffer before, if it came when it was due.
    last: Option<(gst::ClockTime, u64, u64)>,
}

impl Timestamps {
    pub(super) fn new(rate: u32) -> Self {
        Self {
            rate,
            anchors: VecDeque::new(),
            watch: None,
            agreed: 0,
            end_before: None,
            last: None,
        }
    }

    /// Time that `samples` samples last.
    pub(super) fn duration(&self, samples: u64) -> gst::ClockTime {
        clock_time(sample_time::samples_to_ns(samples, self.rate))
    }

    /// Samples that last for `duration`.
    pub(super) fn samples(&self, duration: gst::ClockTime) -> u64 {
        sample_time::ns_to_samples(duration.nseconds(), self.rate)
    }

    /// The moment of sample `sample`, once there is a first one.
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

    /// The sample at running time `running`, in nanoseconds, counted on beyond the last one.
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

    /// Forgets times of samples before `sample`.
    pub(super) fn forget_before(&mut self, sample: u64) {
        while self.anchors.get(1).is_some_and(|next| next.sample <= sample) {
            self.anchors.pop_front();
        }
    }

    /// Places `arrival`, stamped in `segment`, after `count` samples.
    pub(super) fn align(&mut self, arrival: &Arrival, segment: &Arc<Segment>, count: u64) -> Placement {
        let Some(expected) = self.anchors.back().map(|anchor| self.from(anchor, count)) else {
            // Without timestamps, audio begins where that before it ended, or with the segment.
            let after = self.end_before.as_ref().map(|end| segment.at_running(end.running()));
            let pts = arrival.pts.or(after).unwrap_or_else(|| segment.start());
            self.begin(pts, segment);
            self.remember(arrival);
            return Placement::First;
        };
        let Some(pts) = arrival.pts else {
            // Without a timestamp a buffer follows the one before; if that was withheld, this one is, too.
            let length = signed(self.duration(arrival.len));
            return match self.watch.as_mut().filter(|watch| watch.withholds) {
                Some(watch) => {
                    watch.seen = watch.seen.saturating_add(length);
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
        // Half its length and more: less is jitter.
        if repeated && offset.unsigned_abs().saturating_mul(2) >= self.duration(arrival.len).nseconds() {
            return Placement::Overlap(arrival.len);
        }
        if offset.unsigned_abs() <= ALIGNMENT_THRESHOLD as u64 {
            self.watch = None;
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
            self.watch = None;
            if is_new_segment {
                self.enter(offset, pts, segment, count);
            }
            return self.accept_timestamp(offset);
        }
        if offset < 0 && self.agreed < DISCONT_WAIT {
            self.watch = None;
            self.anchor(count, pts, segment);
            return Placement::Direct;
        }
        self.observe(offset, pts, arrival.len, segment, count)
    }

    /// Takes the stamps at their word.
    fn accept_timestamp(&self, offset: i64) -> Placement {
        let off = self.samples(clock_time(offset.unsigned_abs()));
        match offset > 0 {
            true => Placement::Hole(off),
            false => Placement::Overlap(off),
        }
    }

    /// Time goes on in a new segment: after the hole, or after the samples that were given before.
    fn enter(&mut self, offset: i64, pts: gst::ClockTime, segment: &Arc<Segment>, count: u64) {
        match self.accept_timestamp(offset) {
            Placement::Hole(missing) => self.anchor(count.saturating_add(missing), pts, segment),
            Placement::Overlap(given) => self.anchor(count, pts.saturating_add(self.duration(given)), segment),
            Placement::First | Placement::Direct | Placement::Withhold => {}
        }
    }

    /// Looks at stamps that nothing vouches for.
    fn observe(&mut self, offset: i64, pts: gst::ClockTime, len: u64, segment: &Arc<Segment>, count: u64) -> Placement {
        let length = signed(self.duration(len));
        let fresh = SuspectTimestamps {
            reference: offset,
            seen: 0,
            withholds: offset > MAX_JITTER,
        };
        let watch = self.watch.get_or_insert(fresh);
        if !watch.withholds && offset.saturating_sub(watch.reference) > MAX_JITTER {
            *watch = fresh;
        }
        if watch.withholds {
            watch.seen = watch.seen.saturating_add(length);
            return Placement::Withhold;
        }
        if offset.saturating_sub(watch.reference).unsigned_abs() > ALIGNMENT_THRESHOLD as u64 {
            *watch = SuspectTimestamps {
                reference: offset,
                seen: length,
                withholds: false,
            };
        } else {
            watch.seen = watch.seen.saturating_add(length);
        }
        if watch.seen > DISCONT_WAIT {
            self.watch = None;
            self.anchor(count, pts, segment);
        }
        Placement::Direct
    }

    /// What the stamps of withheld audio say by now; `first` and `last` are those of the first buffer that was withheld and of
    /// the last one, `between` the samples from the beginning of the one to that of the other. None: too early to say.
    pub(super) fn watched(&self, first: gst::ClockTime, last: gst::ClockTime, between: u64) -> Option<JumpCause> {
        let watch = self.watch.as_ref().filter(|watch| watch.withholds)?;
        if self.offset_reduction(first, last, between) > ALIGNMENT_THRESHOLD {
            return Some(JumpCause::Late);
        }
        (watch.seen >= DISCONT_WAIT).then_some(JumpCause::Hole)
    }

    /// As [`watched`](Self::watched), where there is no time to wait: what is more likely.
    pub(super) fn most_likely_cause(&self, first: gst::ClockTime, last: gst::ClockTime, between: u64) -> JumpCause {
        match self.offset_reduction(first, last, between).saturating_mul(2) > signed(self.duration(between)) {
            true => JumpCause::Late,
            false => JumpCause::Hole,
        }
    }

    /// By how much stamps came nearer to the count of samples. After a hole they go on as the samples do; after a stall they
    /// stand still until the burst is over.
    fn offset_reduction(&self, first: gst::ClockTime, last: gst::ClockTime, between: u64) -> i64 {
        let stamped = signed(last).saturating_sub(signed(first));
        signed(self.duration(between)).saturating_sub(stamped)
    }

    /// Withheld audio is about to be placed, because of `cause`.
    pub(super) fn resolve(&mut self, cause: JumpCause) {
        if let Some(watch) = &mut self.watch {
            match cause {
                JumpCause::Hole => self.watch = None,
                // The stamps go on being looked at; the audio is taken as it comes.
                JumpCause::Late => watch.withholds = false,
            }
        }
    }

    /// Whether this buffer was sent before: same stamp, same contents. Stamps alone do not tell: those of a burst are alike.
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

    /// Nothing that came before counts any more.
    pub(super) fn forget(&mut self) {
        *self = Self::new(self.rate);
    }

    /// The next buffer is the first of a new stream, which follows one that ended at `end`, if it follows any.
    pub(super) fn reset(&mut self, end: Option<Moment>) {
        self.end_before = end.or(self.end_before.take());
        self.anchors.clear();
        self.watch = None;
        self.agreed = 0;
        self.last = None;
    }
}

/// A time of so many nanoseconds, or the last one there is.
pub(super) fn clock_time(ns: u64) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(ns.min(gst::ClockTime::MAX.nseconds()))
}

/// Nanoseconds, or the most that fit.
pub(super) fn signed(time: gst::ClockTime) -> i64 {
    i64::try_from(time.nseconds()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;

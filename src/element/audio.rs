// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where a buffer of audio belongs in the stream that is being heard.

use gst_audio::AudioStreamAlign;

use crate::timeline;

/// Bytes of one sample: S16LE, mono.
pub(super) const BYTES_PER_SAMPLE: usize = 2;
/// Timestamps may be off by this much, as every GStreamer audio element allows.
const ALIGNMENT: gst::ClockTime = gst::ClockTime::from_mseconds(40);
/// And must stay off for this long before they are believed,
const DISCONT_WAIT: gst::ClockTime = gst::ClockTime::from_seconds(1);
/// unless they jump by more than jitter does: a hole must be heard where it is, not a second later.
const JUMP: gst::ClockTime = gst::ClockTime::from_mseconds(160);

/// The samples of `bytes`, wherever in memory they lie.
pub(super) fn samples(bytes: &[u8]) -> impl Iterator<Item = i16> {
    bytes.as_chunks().0.iter().map(|pair| i16::from_le_bytes(*pair))
}

/// How a buffer follows what was heard before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follows {
    /// It is the first one, heard from this time on.
    First(gst::ClockTime),
    /// Without a hole.
    Directly,
    /// After a hole of this many samples.
    Hole(u64),
    /// Its first samples were heard already.
    Overlap(u64),
}

/// Compares timestamps with the number of samples heard. The count wins: it does not drift.
pub(super) struct Alignment {
    align: AudioStreamAlign,
    rate: u32,
    /// Time of the first sample, once there is one.
    base: Option<gst::ClockTime>,
}

impl Alignment {
    pub(super) fn new(rate: u32) -> Self {
        Self {
            align: AudioStreamAlign::new(rate as i32, ALIGNMENT, DISCONT_WAIT),
            rate,
            base: None,
        }
    }

    /// Time of sample `sample` of the stream.
    pub(super) fn time(&self, sample: u64) -> Option<gst::ClockTime> {
        self.base.map(|base| base.saturating_add(self.duration(sample)))
    }

    /// Time that `samples` samples last.
    pub(super) fn duration(&self, samples: u64) -> gst::ClockTime {
        gst::ClockTime::from_nseconds(timeline::samples_to_ns(samples, self.rate))
    }

    /// Samples that last for `duration`.
    pub(super) fn samples(&self, duration: gst::ClockTime) -> u64 {
        timeline::ns_to_samples(duration.nseconds(), self.rate)
    }

    /// Places a buffer of `samples` samples that is stamped `pts` after the `heard` samples before it.
    pub(super) fn place(&mut self, pts: Option<gst::ClockTime>, discont: bool, samples: u64, heard: u64) -> Follows {
        let expected = self.time(heard);
        // Without a timestamp a buffer follows the one before.
        let Some(pts) = pts.or(expected) else {
            return self.begin(gst::ClockTime::ZERO);
        };
        let Some(expected) = expected else {
            self.align.process(true, pts, samples as u32);
            return self.begin(pts);
        };
        let jump = pts.absdiff(expected) > JUMP;
        let (moved, ..) = self.align.process(discont || jump, pts, samples as u32);
        if !moved {
            return Follows::Directly;
        }
        if pts >= expected {
            match self.samples(pts - expected) {
                0 => Follows::Directly,
                hole => Follows::Hole(hole),
            }
        } else {
            match self.samples(expected - pts) {
                0 => Follows::Directly,
                overlap => Follows::Overlap(overlap),
            }
        }
    }

    fn begin(&mut self, pts: gst::ClockTime) -> Follows {
        self.base = Some(pts);
        Follows::First(pts)
    }

    /// The next buffer is the first of a new stream.
    pub(super) fn reset(&mut self) {
        self.base = None;
        self.align.mark_discont();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: gst::ClockTime = gst::ClockTime::from_mseconds(1);

    fn placed(alignment: &mut Alignment, ms: u64, discont: bool, heard: u64) -> Follows {
        alignment.place(Some(ms * MS), discont, 160, heard)
    }

    #[test]
    fn holes_and_overlaps_are_counted_in_samples() {
        gst::init().unwrap();
        let mut alignment = Alignment::new(16_000);
        assert_eq!(placed(&mut alignment, 1000, false, 0), Follows::First(1000 * MS));
        assert_eq!(placed(&mut alignment, 1010, false, 160), Follows::Directly);
        // A flagged discontinuity is believed at once, however small, and so are the samples that came since.
        assert_eq!(placed(&mut alignment, 1030, true, 320), Follows::Hole(160));
        assert_eq!(placed(&mut alignment, 1040, true, 800), Follows::Overlap(160));
        assert_eq!(alignment.time(16_000), Some(2000 * MS));
    }

    #[test]
    fn jitter_is_not_believed() {
        gst::init().unwrap();
        let mut alignment = Alignment::new(16_000);
        placed(&mut alignment, 0, false, 0);
        for (i, jitter) in [3, 0, 7, 2].into_iter().enumerate() {
            let heard = 160 * (i as u64 + 1);
            assert_eq!(
                placed(&mut alignment, heard / 16 + jitter, false, heard),
                Follows::Directly
            );
        }
    }

    #[test]
    fn buffers_without_timestamps_follow_each_other() {
        gst::init().unwrap();
        let mut alignment = Alignment::new(16_000);
        assert_eq!(
            alignment.place(None, false, 160, 0),
            Follows::First(gst::ClockTime::ZERO)
        );
        assert_eq!(alignment.place(None, false, 160, 160), Follows::Directly);
    }

    #[test]
    fn samples_are_read_from_any_address() {
        let bytes = [0xff_u8, 0x01, 0x00, 0xff, 0xff, 0x00];
        assert_eq!(samples(&bytes[1..5]).collect::<Vec<_>>(), [1, -1]);
        assert_eq!(samples(&bytes[1..4]).collect::<Vec<_>>(), [1]);
    }
}

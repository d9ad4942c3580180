// SPDX-License-Identifier: MIT OR Apache-2.0

//! Does computing keep up with a live source?

use super::NemoSttOverload;

/// Audio is skipped until it comes no later than this.
const CAUGHT_UP: gst::ClockTime = gst::ClockTime::from_mseconds(20);

/// What is known about how late audio is heard.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Whether upstream is live, and its minimum latency, as the last LATENCY query told.
    upstream: Option<(bool, gst::ClockTime)>,
    /// Time that did not go into computing but makes what is queued upstream late: waiting for the model to be loaded and
    /// for a synchronising sink to take what was pushed. It shrinks as that queue empties.
    excused: gst::ClockTime,
    /// Largest delay so far.
    max_delay: gst::ClockTime,
    /// The delay is above the allowance, and that was said.
    late: bool,
}

/// What to do about a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Leave it out.
    pub(super) skip: bool,
    /// Say that computing does not keep up: once each time it begins.
    pub(super) warn: bool,
    /// The largest delay grew.
    pub(super) grew: bool,
    /// By how much computing is behind.
    pub(super) delay: gst::ClockTime,
}

impl Pace {
    /// Takes what upstream answered to a LATENCY query.
    pub(super) fn set_upstream(&mut self, live: bool, latency: gst::ClockTime) {
        self.upstream = Some((live, latency));
    }

    /// Largest time so far by which audio of a live source was heard later than it came.
    pub(super) fn max_delay(&self) -> gst::ClockTime {
        self.max_delay
    }

    /// Time went by in which nothing could be computed.
    pub(super) fn excuse(&mut self, time: std::time::Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.excused = self
            .excused
            .saturating_add(gst::ClockTime::from_nseconds(time.min(i64::MAX as u64)));
    }

    /// Judges a buffer that ends at running time `end` and is about to be heard at running time `now`. Without a clock,
    /// or when the source is not live, there is no hurry.
    pub(super) fn judge(
        &mut self,
        end: Option<gst::ClockTime>,
        now: Option<gst::ClockTime>,
        allowance: gst::ClockTime,
        overload: NemoSttOverload,
    ) -> Verdict {
        let hurry = self.upstream.filter(|(live, _)| *live);
        let times = end.zip(now).zip(hurry);
        let Some(((end, now), (_, upstream))) = times else {
            return Verdict {
                skip: false,
                warn: false,
                grew: false,
                delay: gst::ClockTime::ZERO,
            };
        };
        let late = now.saturating_sub(end).saturating_sub(upstream);
        self.excused = self.excused.min(late);
        let delay = late - self.excused;
        let grew = delay > self.max_delay;
        self.max_delay = self.max_delay.max(delay);
        let was_late = self.late;
        self.late = delay > allowance || (self.late && delay > CAUGHT_UP);
        Verdict {
            skip: overload == NemoSttOverload::Skip && self.late,
            warn: self.late && !was_late,
            grew,
            delay,
        }
    }

    /// After a flush or a stop.
    pub(super) fn reset(&mut self) {
        *self = Self {
            upstream: self.upstream,
            ..Self::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: gst::ClockTime = gst::ClockTime::from_mseconds(1);

    fn judge(pace: &mut Pace, delay: u64, overload: NemoSttOverload) -> (bool, bool, bool) {
        let end = 1_000 * MS;
        let verdict = pace.judge(Some(end), Some(end + (20 + delay) * MS), 100 * MS, overload);
        (verdict.skip, verdict.warn, verdict.grew)
    }

    #[test]
    fn a_file_is_never_late() {
        let mut pace = Pace::default();
        assert_eq!(judge(&mut pace, 5_000, NemoSttOverload::Skip), (false, false, false));
        pace.set_upstream(false, 20 * MS);
        assert_eq!(judge(&mut pace, 5_000, NemoSttOverload::Skip), (false, false, false));
    }

    #[test]
    fn lateness_is_said_once_and_again_after_it_was_over() {
        let mut pace = Pace::default();
        pace.set_upstream(true, 20 * MS);
        let block = NemoSttOverload::Block;
        assert_eq!(judge(&mut pace, 90, block), (false, false, true));
        assert_eq!(judge(&mut pace, 110, block), (false, true, true));
        assert_eq!(judge(&mut pace, 105, block), (false, false, false));
        assert_eq!(judge(&mut pace, 0, block), (false, false, false));
        assert_eq!(judge(&mut pace, 110, block), (false, true, false));
        assert_eq!(pace.max_delay(), 110 * MS);
    }

    #[test]
    fn waiting_is_no_slowness_until_it_is_caught_up_with() {
        let mut pace = Pace::default();
        pace.set_upstream(true, 20 * MS);
        let skip = NemoSttOverload::Skip;
        pace.excuse(std::time::Duration::from_millis(500));
        assert_eq!(judge(&mut pace, 500, skip), (false, false, false));
        // Slow on top of it.
        assert_eq!(judge(&mut pace, 650, skip), (true, true, true));
        // Caught up: the same delay is nobody's but ours now.
        assert_eq!(judge(&mut pace, 0, skip), (false, false, false));
        assert_eq!(judge(&mut pace, 500, skip), (true, true, true));
    }

    #[test]
    fn skipping_goes_on_until_it_has_caught_up() {
        let mut pace = Pace::default();
        pace.set_upstream(true, 20 * MS);
        let skip = |pace: &mut Pace, delay| judge(pace, delay, NemoSttOverload::Skip).0;
        let skipped = [50, 150, 90, 30, 10, 50].map(|delay| skip(&mut pace, delay));
        assert_eq!(skipped, [false, true, true, true, false, false]);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! When a cue ends.

use std::time::Duration;

use super::rules::{CueMode, CueRules};

const MILLISECOND: u64 = 1_000_000;
/// A silence longer than this ends a cue: a shorter one is a breath within a sentence.
pub(super) const PAUSE: u64 = 800 * MILLISECOND;
/// A cue may begin this much later than its first word, so that the one before it can be read. BBC's [Subtitle
/// Guidelines], "Match subtitle to pace of speaking", allow no more between text and speech.
///
/// [Subtitle Guidelines]: https://www.bbc.co.uk/accessibility/forproducts/guides/subtitles/
pub(super) const MAX_LAG: u64 = 1_500 * MILLISECOND;
/// If the next cue begins within this time, a cue lasts until then: text that goes for a moment only distracts (Netflix
/// closes gaps of less than half a second).
const CHAIN: u64 = 500 * MILLISECOND;
/// Text that stays, as in roll-up, stays this long after it was spoken: BBC's guidelines allow 1.5 s.
const LINGER: u64 = 1_500 * MILLISECOND;

/// What is known of the speech after a cue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The next word begins at this time.
    At(u64),
    /// No word begins before this time.
    After(u64),
}

/// A cue whose end is to be decided. Times are in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown {
    /// When it begins.
    pub(super) start: u64,
    /// When the screen began to fill with it: in paint-on, this may be earlier.
    pub(super) since: u64,
    /// End of its last word.
    pub(super) spoken: u64,
    /// Characters to be read.
    pub(super) characters: u64,
}

/// The rules for times, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    pub(super) min_duration: u64,
    pub(super) max_duration: u64,
    /// Between two cues.
    pub(super) gap: u64,
    pub(super) delay: u64,
    reading_speed: u64,
    /// Text stays on the screen while no other follows.
    stays: bool,
}

impl Timing {
    pub(super) fn new(rules: &CueRules) -> Self {
        Self {
            min_duration: nanoseconds(rules.min_duration),
            max_duration: nanoseconds(rules.max_duration),
            gap: if rules.mode == CueMode::RollUp {
                0
            } else {
                nanoseconds(rules.gap)
            },
            delay: nanoseconds(rules.delay),
            reading_speed: rules.reading_speed.into(),
            stays: rules.mode != CueMode::PopOn,
        }
    }

    /// Time to read `characters`.
    pub(super) fn reading(&self, characters: u64) -> u64 {
        match self.reading_speed {
            0 => 0,
            speed => characters.saturating_mul(1_000 * MILLISECOND) / speed,
        }
    }

    /// When `cue` ends, if the next one is another one.
    pub(super) fn end(&self, cue: &Shown, next: Next) -> u64 {
        let earliest = cue.start.saturating_add(self.min_duration);
        let latest = cue.since.saturating_add(self.max_duration).max(earliest);
        let read = cue.since.saturating_add(self.reading(cue.characters));
        let (Next::At(following) | Next::After(following)) = next;
        let in_sync = following.saturating_add(MAX_LAG).saturating_sub(self.gap);
        // The next cue is not to be late only because the last word of this one is shown to its end.
        let spoken = match next {
            Next::At(following) => cue.spoken.min(following.saturating_sub(self.gap)),
            Next::After(_) => cue.spoken,
        };
        let end = spoken.max(read).max(earliest).min(in_sync.max(earliest)).min(latest);
        let stay = cue.spoken.saturating_add(LINGER);
        let until = match next {
            Next::At(following) => {
                let room = following.saturating_sub(self.gap);
                let is_near = room <= end.saturating_add(CHAIN) || self.stays && room <= stay;
                if is_near { room } else { end }
            }
            Next::After(known) if self.stays => known.min(stay),
            Next::After(_) => end,
        };
        end.max(until.min(latest))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000 * MILLISECOND;

    /// The duration, in milliseconds, of a cue of `characters` that begins at 10 s and is spoken for `spoken` ms.
    fn duration(mode: CueMode, characters: u64, spoken: u64, next: Next) -> u64 {
        let rules = CueRules {
            mode,
            ..CueRules::default()
        };
        let start = 10 * SECOND;
        let cue = Shown {
            start,
            since: start,
            spoken: start + spoken * MILLISECOND,
            characters,
        };
        (Timing::new(&rules).end(&cue, next) - start) / MILLISECOND
    }

    /// `ms` after the start of the cue.
    fn at(ms: u64) -> Next {
        Next::At(10 * SECOND + ms * MILLISECOND)
    }

    fn after(ms: u64) -> Next {
        Next::After(10 * SECOND + ms * MILLISECOND)
    }

    #[test]
    fn a_cue_lasts_as_long_as_it_is_spoken_and_read() {
        let popped = |characters, spoken| duration(CueMode::PopOn, characters, spoken, after(20_000));
        assert_eq!(popped(5, 300), 833);
        assert_eq!(popped(5, 2_000), 2_000);
        assert_eq!(popped(60, 2_000), 3_000);
        assert_eq!(popped(60, 9_000), 7_000);
    }

    #[test]
    fn the_next_cue_is_at_most_a_second_and_a_half_late() {
        assert_eq!(duration(CueMode::PopOn, 60, 1_000, at(2_000)), 3_000);
        assert_eq!(duration(CueMode::PopOn, 60, 1_000, at(1_200)), 1_200 + 1_500 - 80);
        assert_eq!(duration(CueMode::PopOn, 60, 1_000, after(1_200)), 1_200 + 1_500 - 80);
        // The minimum duration does not give way.
        assert_eq!(duration(CueMode::PopOn, 60, 100, Next::At(8 * SECOND)), 833);
    }

    #[test]
    fn the_last_word_does_not_make_the_next_cue_late() {
        assert_eq!(duration(CueMode::PopOn, 5, 2_000, at(2_000)), 1_920);
        assert_eq!(duration(CueMode::PopOn, 39, 2_000, at(2_000)), 1_950);
        assert_eq!(duration(CueMode::PopOn, 5, 2_000, after(2_000)), 2_000);
    }

    #[test]
    fn short_gaps_are_closed() {
        assert_eq!(duration(CueMode::PopOn, 5, 1_000, at(1_580)), 1_500);
        assert_eq!(duration(CueMode::PopOn, 5, 1_000, at(1_581)), 1_000);
        assert_eq!(duration(CueMode::RollUp, 5, 1_000, at(2_500)), 2_500);
        assert_eq!(duration(CueMode::RollUp, 5, 1_000, at(2_501)), 1_000);
        assert_eq!(duration(CueMode::RollUp, 5, 1_000, after(2_000)), 2_000);
        assert_eq!(duration(CueMode::RollUp, 5, 1_000, after(3_000)), 2_500);
    }

    #[test]
    fn without_a_reading_speed_text_needs_no_time() {
        let rules = CueRules {
            reading_speed: 0,
            ..CueRules::default()
        };
        assert_eq!(Timing::new(&rules).reading(1_000), 0);
        assert_eq!(Timing::new(&CueRules::default()).reading(20), SECOND);
    }
}

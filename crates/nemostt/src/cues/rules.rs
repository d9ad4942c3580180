// SPDX-License-Identifier: MIT OR Apache-2.0

//! The rules that cues keep, and their defaults.

use std::{ops::RangeInclusive, time::Duration};

use thiserror::Error;

/// How cues appear on the screen; the terms are those of CEA-608.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CueMode {
    /// A cue appears as a whole and replaces the one before it.
    #[default]
    PopOn,
    /// A cue is a line, which appears below the lines before it and moves them up.
    RollUp,
    /// Words appear one after the other. When there is no more room for them, the screen is cleared.
    PaintOn,
}

/// What cues may look like and how long they last.
///
/// The defaults are those of Netflix's [Timed Text Style Guide], which most of the industry's guidelines resemble: the
/// general requirements for durations, gap and lines, the English guide for columns and reading speed.
///
/// [Timed Text Style Guide]: https://partnerhelp.netflixstudios.com/hc/en-us/articles/215758617
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CueRules {
    /// How cues appear.
    pub mode: CueMode,
    /// Most lines on the screen, 1 to 15 (the rows of CEA-608). Default: 2.
    pub lines: usize,
    /// Most columns of a line, 8 to 255; most characters take one, those of Chinese, Japanese and Korean two.
    /// Default: 42.
    pub columns: usize,
    /// Shortest duration, 1 ms to 60 s and at most `max_duration`. In paint-on, that of everything from a clear screen to
    /// the next. Default: 833 ms (5/6 s).
    pub min_duration: Duration,
    /// Longest duration, 1 ms to 60 s; as `min_duration` in paint-on. Default: 7 s.
    pub max_duration: Duration,
    /// Fastest reading speed in characters per second, at most 1000; 0: no limit. Default: 20.
    pub reading_speed: u32,
    /// Time without text between two cues, at most 10 s. Default: 80 ms (two frames at 25 per second). In roll-up, and
    /// within a screen of paint-on, text stays and there is no gap.
    pub gap: Duration,
    /// A cue is complete when all words up to this long after its start are known, at most 60 s. Default: 3 s.
    pub delay: Duration,
}

impl Default for CueRules {
    fn default() -> Self {
        Self {
            mode: CueMode::default(),
            lines: 2,
            columns: 42,
            min_duration: Duration::from_millis(833),
            max_duration: Duration::from_secs(7),
            reading_speed: 20,
            gap: Duration::from_millis(80),
            delay: Duration::from_secs(3),
        }
    }
}

/// A rule that cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("cue rule {rule} is {value}, but must be {expected}")]
pub struct RuleError {
    /// Name of the field of [`CueRules`].
    pub rule: &'static str,
    /// Its value, with the unit.
    pub value: String,
    /// The values that it can have.
    pub expected: String,
}

/// Range of both durations in milliseconds.
const DURATION: RangeInclusive<u64> = 1..=60_000;

impl CueRules {
    /// Columns of a row in CEA-608.
    pub const CEA608_COLUMNS: usize = 32;
    /// Rows of CEA-608.
    pub const CEA608_ROWS: usize = 15;

    /// Checks that each rule is within its range.
    ///
    /// # Errors
    /// The first one that is not.
    pub fn validate(&self) -> Result<(), RuleError> {
        check("lines", self.lines as u64, 1..=Self::CEA608_ROWS as u64, "")?;
        check("columns", self.columns as u64, 8..=255, "")?;
        check("max_duration", milliseconds(self.max_duration), DURATION, " ms")?;
        check("min_duration", milliseconds(self.min_duration), DURATION, " ms")?;
        if self.min_duration > self.max_duration {
            return Err(RuleError {
                rule: "min_duration",
                value: format!("{} ms", milliseconds(self.min_duration)),
                expected: format!("at most max_duration, {} ms", milliseconds(self.max_duration)),
            });
        }
        check(
            "reading_speed",
            self.reading_speed.into(),
            0..=1_000,
            " characters per second",
        )?;
        check("gap", milliseconds(self.gap), 0..=10_000, " ms")?;
        check("delay", milliseconds(self.delay), 0..=60_000, " ms")
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn check(rule: &'static str, value: u64, range: RangeInclusive<u64>, unit: &str) -> Result<(), RuleError> {
    match range.contains(&value) {
        true => Ok(()),
        false => Err(RuleError {
            rule,
            value: format!("{value}{unit}"),
            expected: format!("{} to {}{unit}", range.start(), range.end()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert_eq!(CueRules::default().validate(), Ok(()));
    }

    #[test]
    fn errors_name_rule_value_and_range() {
        let error = |change: fn(&mut CueRules)| {
            let mut rules = CueRules::default();
            change(&mut rules);
            rules.validate().unwrap_err().to_string()
        };
        assert_eq!(
            error(|rules| rules.lines = 0),
            "cue rule lines is 0, but must be 1 to 15"
        );
        assert_eq!(
            error(|rules| rules.columns = 7),
            "cue rule columns is 7, but must be 8 to 255"
        );
        assert_eq!(
            error(|rules| rules.max_duration = Duration::from_secs(61)),
            "cue rule max_duration is 61000 ms, but must be 1 to 60000 ms"
        );
        assert_eq!(
            error(|rules| rules.min_duration = Duration::ZERO),
            "cue rule min_duration is 0 ms, but must be 1 to 60000 ms"
        );
        assert_eq!(
            error(|rules| rules.min_duration = Duration::from_secs(8)),
            "cue rule min_duration is 8000 ms, but must be at most max_duration, 7000 ms"
        );
        assert_eq!(
            error(|rules| rules.reading_speed = 1_001),
            "cue rule reading_speed is 1001 characters per second, but must be 0 to 1000 characters per second"
        );
        assert_eq!(
            error(|rules| rules.gap = Duration::from_secs(11)),
            "cue rule gap is 11000 ms, but must be 0 to 10000 ms"
        );
        assert_eq!(
            error(|rules| rules.delay = Duration::from_secs(61)),
            "cue rule delay is 61000 ms, but must be 0 to 60000 ms"
        );
    }
}

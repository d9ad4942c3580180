// SPDX-License-Identifier: MIT OR Apache-2.0

//! Subtitle cues: the rules that the command line gives, and the formats of SubRip and WebVTT.

use std::time::Duration;

use clap::Args;
use nemostt::cues::{Cue, CueRules};

/// The rules of `--srt` and `--vtt`.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Subtitles")]
pub struct CueArguments {
    /// Most lines of a subtitle, 1 to 15 [default: 2]
    #[arg(long, value_name = "N")]
    cue_lines: Option<usize>,

    /// Most columns of a line, 8 to 255 [default: 42]
    #[arg(long, value_name = "N")]
    cue_columns: Option<usize>,

    /// Shortest duration of a subtitle in milliseconds [default: 833]
    #[arg(long, value_name = "MS")]
    cue_min_duration: Option<u64>,

    /// Longest duration of a subtitle in milliseconds [default: 7000]
    #[arg(long, value_name = "MS")]
    cue_max_duration: Option<u64>,

    /// Most characters per second that viewers have to read; 0: no limit [default: 20]
    #[arg(long, value_name = "N")]
    cue_reading_speed: Option<u32>,

    /// Shortest time between two subtitles in milliseconds [default: 80]
    #[arg(long, value_name = "MS")]
    cue_gap: Option<u64>,
}

impl CueArguments {
    /// Whether any rule is given.
    pub fn is_given(&self) -> bool {
        let numbers = [self.cue_lines, self.cue_columns].iter().any(Option::is_some);
        let times = [self.cue_min_duration, self.cue_max_duration, self.cue_gap];
        numbers || times.iter().any(Option::is_some) || self.cue_reading_speed.is_some()
    }

    /// The rules, those that are not given as in [`CueRules::default`].
    ///
    /// # Errors
    /// One line that names the option and its range.
    pub fn rules(&self) -> Result<CueRules, String> {
        let default = CueRules::default();
        let duration = |given: Option<u64>, default| given.map_or(default, Duration::from_millis);
        let max_duration = duration(self.cue_max_duration, default.max_duration);
        let rules = CueRules {
            lines: self.cue_lines.unwrap_or(default.lines),
            columns: self.cue_columns.unwrap_or(default.columns),
            min_duration: duration(self.cue_min_duration, default.min_duration),
            max_duration,
            reading_speed: self.cue_reading_speed.unwrap_or(default.reading_speed),
            gap: duration(self.cue_gap, default.gap),
            // A file is not live: a cue can wait for all words that it may have.
            delay: max_duration,
            ..default
        };
        match rules.validate() {
            Ok(()) => Ok(rules),
            Err(error) => Err(format!("--cue-{}: {error}", error.rule.replace('_', "-"))),
        }
    }
}

/// `cue` in SubRip format, without the number.
pub fn srt(cue: &Cue) -> String {
    format!("{} --> {}\n{}\n", time(cue.start, ','), time(cue.end, ','), cue.text())
}

/// `cue` in WebVTT format.
pub fn vtt(cue: &Cue) -> String {
    // `>` as well, because `-->` must not occur in the text.
    let text = cue
        .text()
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    format!("{} --> {}\n{text}\n", time(cue.start, '.'), time(cue.end, '.'))
}

/// hours:minutes:seconds, `point` and milliseconds.
pub fn time(nanoseconds: u64, point: char) -> String {
    let milliseconds = nanoseconds.saturating_add(500_000) / 1_000_000;
    let seconds = milliseconds / 1000;
    format!(
        "{:02}:{:02}:{:02}{point}{:03}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        milliseconds % 1000
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    const MILLISECOND: u64 = 1_000_000;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        cues: CueArguments,
    }

    fn parse(line: &str) -> CueArguments {
        Line::try_parse_from(line.split(' ')).unwrap().cues
    }

    #[test]
    fn rules_follow_the_command_line() {
        assert!(!parse("x").is_given());
        let default = CueRules::default();
        let delay = default.max_duration;
        assert_eq!(parse("x").rules(), Ok(CueRules { delay, ..default }));
        let all = "x --cue-lines 3 --cue-columns 20 --cue-min-duration 500 --cue-max-duration 5000 --cue-reading-speed 0 \
                   --cue-gap 0";
        let rules = CueRules {
            lines: 3,
            columns: 20,
            min_duration: Duration::from_millis(500),
            max_duration: Duration::from_secs(5),
            reading_speed: 0,
            gap: Duration::ZERO,
            delay: Duration::from_secs(5),
            ..default
        };
        assert_eq!(parse(all).rules(), Ok(rules));
        for option in all.split(" --").skip(1) {
            assert!(parse(&format!("x --{option}")).is_given(), "{option}");
        }
    }

    #[test]
    fn errors_name_the_option() {
        let error = |line| parse(line).rules().unwrap_err();
        assert_eq!(
            error("x --cue-columns 7"),
            "--cue-columns: cue rule columns is 7, but must be 8 to 255"
        );
        assert_eq!(
            error("x --cue-max-duration 500"),
            "--cue-min-duration: cue rule min_duration is 833 ms, but must be at most max_duration, 500 ms"
        );
    }

    #[test]
    fn times_are_written_in_full() {
        let time = |milliseconds: u64, point| time(milliseconds * MILLISECOND, point);
        assert_eq!(time(0, ','), "00:00:00,000");
        assert_eq!(time(3_723_045, '.'), "01:02:03.045");
        assert_eq!(time(360_000_000 - 1, ','), "99:59:59,999");
        assert_eq!(time(360_000_000, '.'), "100:00:00.000");
    }

    #[test]
    fn the_two_formats() {
        let cue = Cue {
            start: 1_234 * MILLISECOND,
            end: 61_000 * MILLISECOND,
            lines: vec!["a & b".into(), "<c>".into()],
            added: Vec::new(),
            clears: true,
            words: 4,
            delayed: 0,
        };
        assert_eq!(srt(&cue), "00:00:01,234 --> 00:01:01,000\na & b\n<c>\n");
        assert_eq!(vtt(&cue), "00:00:01.234 --> 00:01:01.000\na &amp; b\n&lt;c&gt;\n");
    }
}

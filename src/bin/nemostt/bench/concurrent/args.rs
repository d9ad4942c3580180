// SPDX-License-Identifier: MIT OR Apache-2.0

//! The options of `nemostt bench` for concurrent streams.

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, value_parser};

/// Upper limit, because each stream takes a thread.
pub const MAX_STREAMS: u16 = 16_384;

/// How many streams, and how they are fed.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Concurrent streams")]
#[group(skip)]
#[command(group = ArgGroup::new("concurrent").args(["streams", "paced"]).multiple(true))]
pub struct ConcurrentArguments {
    /// Measure this many streams of one model at the same time, each on a thread of its own: numbers, separated by
    /// commas
    #[arg(long, value_name = "N", value_delimiter = ',',
          value_parser = value_parser!(u16).range(1..=i64::from(MAX_STREAMS)))]
    streams: Vec<u16>,

    /// Feed the streams in real time, and measure the delay of their steps; without --streams, search for the largest
    /// number of streams within --delay-bound
    #[arg(long)]
    paced: bool,

    /// Seconds of audio per stream and measurement
    #[arg(long, value_name = "S", default_value_t = 20, requires = "concurrent",
          value_parser = value_parser!(u32).range(2..=86_400))]
    seconds: u32,

    /// Longest delay that 99 % of the steps may have, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 80, requires = "paced",
          value_parser = value_parser!(u32).range(1..))]
    delay_bound: u32,

    /// Draw the measurements as an SVG file: delays or speed against the number of streams
    #[arg(long, value_name = "FILE", requires = "concurrent", value_parser = crate::file())]
    pub plot: Option<PathBuf>,
}

/// What to measure.
#[derive(Debug, PartialEq)]
pub enum Plan {
    /// Delays in real time.
    Paced {
        counts: Counts,
        bound: Duration,
    },
    FullSpeed(Vec<usize>),
}

/// Numbers of streams.
#[derive(Debug, PartialEq)]
pub enum Counts {
    /// In ascending order.
    Listed(Vec<usize>),
    /// The largest within the bound is to be found.
    Search,
}

impl ConcurrentArguments {
    /// What to measure, if any of this was requested.
    pub fn plan(&self) -> Option<Plan> {
        // In ascending order, streams are only ever added: that is how their memory can be measured.
        let mut counts: Vec<usize> = self.streams.iter().copied().map(usize::from).collect();
        counts.sort_unstable();
        counts.dedup();
        let bound = Duration::from_millis(self.delay_bound.into());
        match (self.paced, counts.is_empty()) {
            (false, true) => None,
            (false, false) => Some(Plan::FullSpeed(counts)),
            (true, true) => Some(Plan::Paced {
                counts: Counts::Search,
                bound,
            }),
            (true, false) => Some(Plan::Paced {
                counts: Counts::Listed(counts),
                bound,
            }),
        }
    }

    /// Audio per stream and measurement.
    pub fn audio(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }
}

#[cfg(test)]
mod tests {
    use clap::{Parser, error::ErrorKind};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        concurrent: ConcurrentArguments,
    }

    fn parsed(line: &str) -> Result<ConcurrentArguments, ErrorKind> {
        let words = line.split_whitespace();
        let line = Line::try_parse_from(std::iter::once("x").chain(words));
        line.map(|line| line.concurrent).map_err(|error| error.kind())
    }

    fn plan(line: &str) -> Option<Plan> {
        parsed(line).unwrap().plan()
    }

    #[test]
    fn lists_are_sorted() {
        assert_eq!(plan("--streams 8,1,8,2"), Some(Plan::FullSpeed(vec![1, 2, 8])));
        let paced = |counts, bound| {
            let bound = Duration::from_millis(bound);
            Some(Plan::Paced { counts, bound })
        };
        assert_eq!(
            plan("--paced --streams 4 --streams 3,3"),
            paced(Counts::Listed(vec![3, 4]), 80)
        );
        assert_eq!(plan("--paced --delay-bound 200"), paced(Counts::Search, 200));
        assert_eq!(plan(""), None);
    }

    #[test]
    fn times_have_defaults() {
        assert_eq!(parsed("--paced").unwrap().audio(), Duration::from_secs(20));
        assert_eq!(
            parsed("--streams 1 --seconds 2").unwrap().audio(),
            Duration::from_secs(2)
        );
    }

    #[test]
    fn impossible_numbers_are_refused() {
        for line in [
            "--streams 0",
            "--streams 1,,2",
            "--streams 1,two",
            "--streams 16385",
            "--streams -1",
            "--paced --seconds 1",
            "--paced --delay-bound 0",
            "--paced --plot -",
        ] {
            let error = parsed(line).unwrap_err();
            let expected = [
                ErrorKind::ValueValidation,
                ErrorKind::UnknownArgument,
                ErrorKind::InvalidValue,
            ];
            assert!(expected.contains(&error), "{line}: {error:?}");
        }
    }

    #[test]
    fn options_without_effect_are_refused() {
        for line in [
            "--seconds 5",
            "--plot x.svg",
            "--delay-bound 50",
            "--streams 2 --delay-bound 50",
        ] {
            assert_eq!(parsed(line).err(), Some(ErrorKind::MissingRequiredArgument), "{line}");
        }
        assert!(parsed("--streams 2 --seconds 5 --plot x.svg").is_ok());
        assert!(parsed("--paced --seconds 5 --plot x.svg --delay-bound 9").is_ok());
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Concurrent streams as a table, as JSON and as a plot.

use std::{
    fmt::{self, Display},
    path::Path,
    time::Duration,
};

use nemostt::ModelConfig;
use serde::Serialize;

use super::{args::MAX_STREAMS, row::Row, step};
use crate::bench::{
    cpu_contention,
    plot::{Curve, Plot},
    quantile::milliseconds,
    setup::Setup,
    text::{digits, table},
};

/// All results.
#[derive(Debug, Serialize)]
pub struct Report {
    #[serde(flatten)]
    setup: Setup,
    lookahead_ms: u64,
    chunk_ms: f64,
    /// Audio per stream and measurement.
    seconds: f64,
    #[serde(flatten)]
    mode: Mode,
    /// In ascending order of the number of streams.
    measurements: Vec<Row>,
}

/// How the streams were fed.
#[derive(Debug, Serialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum Mode {
    Paced {
        delay_bound_ms: f64,
        /// The largest number of streams within the bound, if it was searched for.
        max_streams: Option<usize>,
    },
    FullSpeed,
}

impl Report {
    pub fn new(setup: Setup, config: &ModelConfig, audio: Duration, mode: Mode, mut measurements: Vec<Row>) -> Self {
        measurements.sort_by_key(|row| row.streams);
        Self {
            setup,
            lookahead_ms: config.lookahead_ms(),
            chunk_ms: milliseconds(step::chunk(config)),
            seconds: audio.as_secs_f64(),
            mode,
            measurements,
        }
    }

    /// Delays or speed against the number of streams.
    pub fn plot(&self) -> Plot {
        let model = Path::new(&self.setup.model).file_name().unwrap_or_default();
        let (title, y_label, limit) = match &self.mode {
            Mode::Paced { delay_bound_ms, .. } => (
                "step delay in real time",
                "step delay in ms",
                Some((*delay_bound_ms, "bound".into())),
            ),
            Mode::FullSpeed => ("speed", "seconds of audio per second", None),
        };
        let names = self.measurements.first().map_or(Vec::new(), Row::points);
        let curve = |(index, &(name, _)): (usize, &(&str, f64))| Curve {
            name: name.into(),
            points: self
                .measurements
                .iter()
                .map(|row| (row.streams as f64, row.points()[index].1))
                .collect(),
        };
        Plot {
            title: format!("{}, lookahead {} ms: {title}", model.display(), self.lookahead_ms),
            subtitle: self.setup.machine(),
            x_label: "streams".into(),
            y_label: y_label.into(),
            curves: names.iter().enumerate().map(curve).collect(),
            limit,
        }
    }

    /// The largest share of the processors' time that other programs took, of all measurements.
    fn other_programs(&self) -> Option<f64> {
        let shares = self.measurements.iter().filter_map(|row| row.usage.other_programs);
        shares.reduce(f64::max)
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pace = match self.mode {
            Mode::Paced { .. } => "in real time",
            Mode::FullSpeed => "as fast as possible",
        };
        writeln!(
            f,
            "{}lookahead  {} ms: a chunk every {:.0} ms\naudio      {} s per stream, {pace}\n",
            self.setup, self.lookahead_ms, self.chunk_ms, self.seconds
        )?;
        let rows: Vec<_> = self.measurements.iter().map(Row::columns).collect();
        let header = rows.first().into_iter().flatten().map(|&(header, _)| header);
        let cells = rows.iter().map(|row| row.iter().map(|(_, cell)| cell.clone()));
        writeln!(f, "{}\n", table(header, cells))?;
        f.write_str(&cpu_contention::warning(self.other_programs()))?;
        if let Mode::Paced {
            delay_bound_ms: bound,
            max_streams,
        } = &self.mode
        {
            if let Some(streams) = max_streams {
                let limit = if *streams == usize::from(MAX_STREAMS) {
                    ", the upper limit of the search"
                } else {
                    ""
                };
                writeln!(
                    f,
                    "Streams with 99 % of the delays within {} ms: {streams}{limit}\n",
                    digits(*bound)
                )?;
            }
            writeln!(
                f,
                "p50 to max: ms from when a chunk's last 10 ms were due to its words. Late: steps with more than\n\
                 {} ms. Lag: ms that the latest stream was behind at the end.",
                digits(*bound)
            )?;
        }
        writeln!(
            f,
            "Batch: mean number of streams whose steps were computed together. Queue p99: ms that a step waited for its batch\n\
             to begin. CPU: ms of the process per second of one stream's audio. `nemostt bench --help` describes the method."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(max_streams: Option<usize>) -> Report {
        let bound = Duration::from_millis(80);
        Report {
            setup: Setup::for_test("models/small"),
            lookahead_ms: 80,
            chunk_ms: 160.0,
            seconds: 20.0,
            mode: Mode::Paced {
                delay_bound_ms: 80.0,
                max_streams,
            },
            measurements: [(1, 4), (2, 8), (4, 120)]
                .map(|(streams, delay)| Row::of(streams, &[delay; 9], 0, bound))
                .into(),
        }
    }

    #[test]
    fn the_plot_has_both_curves_and_the_bound() {
        let plot = report(None).plot();
        assert_eq!(plot.title, "small, lookahead 80 ms: step delay in real time");
        let curves: Vec<&str> = plot.curves.iter().map(|curve| curve.name.as_str()).collect();
        assert_eq!(curves, ["99th percentile", "median"]);
        assert_eq!(plot.curves[0].points, [(1.0, 4.0), (2.0, 8.0), (4.0, 120.0)]);
        assert_eq!(plot.limit, Some((80.0, "bound".into())));
    }

    #[test]
    fn the_text_has_a_row_each_and_the_result_of_a_search() {
        let text = report(Some(2)).to_string();
        assert_eq!(text.lines().filter(|line| line.starts_with("|  ")).count(), 3, "{text}");
        assert!(text.contains("within 80.0 ms: 2\n"), "{text}");
        assert!(!report(None).to_string().contains("within"));
        assert!(report(Some(MAX_STREAMS.into())).to_string().contains("upper limit"));
    }

    #[test]
    fn json_tells_how_streams_were_fed() {
        let json = serde_json::to_value(report(Some(2))).unwrap();
        assert_eq!((&json["mode"], &json["max_streams"]), (&"paced".into(), &2.into()));
        assert_eq!(
            (&json["model"], &json["measurements"][2]["streams"]),
            (&"models/small".into(), &4.into())
        );
    }
}

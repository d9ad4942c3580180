// SPDX-License-Identifier: MIT OR Apache-2.0

//! The measurement of one number of streams: what JSON, table and plot show of it.

use std::time::Duration;

use serde::Serialize;

use super::{batching::Batching, full_speed::FullSpeed, paced::Paced, usage::Usage};
use crate::bench::{
    quantile::{milliseconds, quantile},
    text::digits,
};

/// One number of streams.
#[derive(Debug, Serialize)]
pub struct Row {
    pub streams: usize,
    #[serde(flatten)]
    outcome: Outcome,
    #[serde(flatten)]
    batching: Batching,
    #[serde(flatten)]
    pub usage: Usage,
}

/// What depends on how the streams were fed.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Outcome {
    Paced(Delays),
    FullSpeed { audio_seconds_per_second: f64 },
}

/// Times in milliseconds, of all steps of all streams.
#[derive(Debug, Serialize)]
struct Delays {
    steps: usize,
    delay_p50_ms: f64,
    delay_p90_ms: f64,
    delay_p99_ms: f64,
    delay_max_ms: f64,
    /// Share of the steps that took longer than the bound, 0 to 1.
    late: f64,
    /// How late the last block was.
    lag_ms: f64,
    /// Whether no stream was late by a chunk or more at the end.
    kept_up: bool,
}

impl Row {
    pub fn paced(streams: usize, measured: Paced, chunk: Duration, bound: Duration) -> Self {
        let delays = &measured.delays;
        let late = delays.iter().filter(|&&delay| delay > bound).count();
        let outcome = Outcome::Paced(Delays {
            steps: delays.len(),
            delay_p50_ms: quantile(delays, 0.5),
            delay_p90_ms: quantile(delays, 0.9),
            delay_p99_ms: quantile(delays, 0.99),
            delay_max_ms: quantile(delays, 1.0),
            late: late as f64 / delays.len().max(1) as f64,
            lag_ms: milliseconds(measured.lag),
            kept_up: !measured.gave_up && measured.lag < chunk,
        });
        Self {
            streams,
            outcome,
            batching: measured.batching,
            usage: measured.usage,
        }
    }

    pub fn full_speed(streams: usize, measured: FullSpeed) -> Self {
        Self {
            streams,
            outcome: Outcome::FullSpeed {
                audio_seconds_per_second: measured.speed,
            },
            batching: measured.batching,
            usage: measured.usage,
        }
    }

    /// Whether streams in real time kept up, with 99 % of the delays within the bound.
    pub fn is_within(&self, bound: Duration) -> bool {
        match &self.outcome {
            Outcome::Paced(delays) => delays.kept_up && delays.delay_p99_ms <= milliseconds(bound),
            Outcome::FullSpeed { .. } => false,
        }
    }

    /// Headers and cells of the table, the same headers in all rows of a report.
    pub fn columns(&self) -> Vec<(&'static str, String)> {
        let mut columns = vec![("streams", self.streams.to_string())];
        match &self.outcome {
            Outcome::Paced(delays) => columns.extend([
                ("p50", digits(delays.delay_p50_ms)),
                ("p90", digits(delays.delay_p90_ms)),
                ("p99", digits(delays.delay_p99_ms)),
                ("max", digits(delays.delay_max_ms)),
                ("late", format!("{:.1} %", 100.0 * delays.late)),
                ("lag", digits(delays.lag_ms)),
                ("kept up", if delays.kept_up { "yes" } else { "no" }.into()),
            ]),
            Outcome::FullSpeed {
                audio_seconds_per_second,
            } => columns.push(("audio s/s", digits(*audio_seconds_per_second))),
        }
        columns.extend(self.batching.columns());
        let known = |value: Option<f64>| value.map_or("unknown".into(), digits);
        let Usage {
            cpu_ms,
            stream_bytes,
            threads,
            ..
        } = self.usage;
        columns.extend([
            ("CPU", known(cpu_ms)),
            (
                "MiB/stream",
                known(stream_bytes.map(|bytes| bytes as f64 / 1_048_576.0)),
            ),
            ("threads", threads.map_or("unknown".into(), |count| count.to_string())),
        ]);
        columns
    }

    /// Names of the plot's curves, and their values here, the same names in all rows of a report.
    pub fn points(&self) -> Vec<(&'static str, f64)> {
        match &self.outcome {
            Outcome::Paced(delays) => vec![
                ("99th percentile", delays.delay_p99_ms),
                ("median", delays.delay_p50_ms),
            ],
            Outcome::FullSpeed {
                audio_seconds_per_second,
            } => vec![("all streams together", *audio_seconds_per_second)],
        }
    }
}

#[cfg(test)]
impl Row {
    /// A row of streams whose steps took these milliseconds.
    pub fn of(streams: usize, delays: &[u64], lag: u64, bound: Duration) -> Self {
        let measured = Paced {
            delays: delays.iter().copied().map(Duration::from_millis).collect(),
            lag: Duration::from_millis(lag),
            gave_up: false,
            batching: Batching::of(streams),
            usage: Usage {
                cpu_ms: Some(4.2),
                stream_bytes: None,
                threads: Some(streams + 1),
                other_programs: Some(0.01),
            },
        };
        Self::paced(streams, measured, Duration::from_millis(160), bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_within_the_bound_if_it_kept_up_with_few_late_steps() {
        let bound = Duration::from_millis(80);
        let mut delays = vec![10; 1000];
        assert!(Row::of(4, &delays, 0, bound).is_within(bound));
        assert!(!Row::of(4, &delays, 160, bound).is_within(bound));
        delays[..9].fill(100);
        assert!(Row::of(4, &delays, 0, bound).is_within(bound));
        delays[..20].fill(81);
        assert!(!Row::of(4, &delays, 0, bound).is_within(bound));
    }

    #[test]
    fn table_and_json_have_the_delays() {
        let bound = Duration::from_millis(80);
        let row = Row::of(2, &[10, 20, 30, 90], 3, bound);
        let cells: Vec<String> = row.columns().into_iter().map(|(_, cell)| cell).collect();
        let expected = [
            "2", "30.0", "90.0", "90.0", "90.0", "25.0 %", "3.00", "yes", "2.00", "1.00", "4.20", "unknown", "3",
        ];
        assert_eq!(cells, expected);
        let json = serde_json::to_value(&row).unwrap();
        assert_eq!(
            (&json["steps"], &json["late"], &json["kept_up"]),
            (&4.into(), &0.25.into(), &true.into())
        );
        assert_eq!((&json["delay_p50_ms"], &json["cpu_ms"]), (&30.0.into(), &4.2.into()));
        assert_eq!(
            (&json["batch_size_mean"], &json["queue_delay_p99_ms"]),
            (&2.0.into(), &1.0.into())
        );
        assert!(json["stream_bytes"].is_null());
    }
}

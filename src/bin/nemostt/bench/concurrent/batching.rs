// SPDX-License-Identifier: MIT OR Apache-2.0

//! How the steps of concurrent streams were batched.

use nemostt::{LaneMetrics, metrics::Histogram};
use serde::Serialize;

use crate::bench::{quantile::milliseconds, text::digits};

/// Of all batches of a measurement.
#[derive(Debug, Serialize)]
pub struct Batching {
    /// Streams per batch; unknown without a batch.
    pub batch_size_mean: Option<f64>,
    /// 99th percentile of the time from the submission of a step to the start of its batch, from a histogram. Unknown if
    /// streams are computed one after the other.
    pub queue_delay_p99_ms: Option<f64>,
    /// 99th percentile of the time that a batch took, from a histogram.
    pub batch_p99_ms: Option<f64>,
}

impl Batching {
    /// What the lanes did in a measurement.
    pub fn new(lanes: &LaneMetrics) -> Self {
        let p99 = |times: &Histogram| (times.count() > 0).then(|| milliseconds(times.quantile(0.99)));
        Self {
            batch_size_mean: (lanes.batches > 0).then(|| lanes.mean_batch_size()),
            queue_delay_p99_ms: p99(&lanes.queue_delay),
            batch_p99_ms: p99(&lanes.step_time),
        }
    }

    /// Headers and cells of the table.
    pub fn columns(&self) -> [(&'static str, String); 2] {
        let known = |value: Option<f64>| value.map_or("unknown".into(), digits);
        [
            ("batch", known(self.batch_size_mean)),
            ("queue p99", known(self.queue_delay_p99_ms)),
        ]
    }
}

#[cfg(test)]
impl Batching {
    /// Batches of `streams`, whose steps waited 1 ms.
    pub fn of(streams: usize) -> Self {
        let mut lanes = LaneMetrics {
            batches: 10,
            jobs: 10 * streams as u64,
            ..Default::default()
        };
        lanes.queue_delay.record(std::time::Duration::from_millis(1));
        Self::new(&lanes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_unknown() {
        let none = Batching::new(&LaneMetrics::default());
        assert_eq!(none.columns().map(|(_, cell)| cell), ["unknown"; 2]);
        assert!(serde_json::to_value(&none).unwrap()["batch_p99_ms"].is_null());
        assert_eq!(Batching::of(3).columns().map(|(_, cell)| cell), ["3.00", "1.00"]);
    }
}

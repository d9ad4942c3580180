// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a server says of itself over HTTP.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;

/// Addresses of a server, here or in a container.
pub struct Endpoint {
    /// `http://host:port`.
    pub http: String,
    /// That of the metrics.
    pub metrics: String,
}

/// What a server has counted for a model since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that succeeded.
    pub requests: u64,
    /// Requests that failed.
    pub failures: u64,
    /// Runs of the model: in each, those of `requests` that were in the batch.
    pub executions: u64,
    /// Requests that wait.
    pub pending: u64,
}

impl Endpoint {
    /// Whether it serves all its models.
    pub fn is_ready(&self) -> bool {
        ureq::get(format!("{}/v2/health/ready", self.http)).call().is_ok()
    }

    /// The configuration of a model as the server understood it.
    pub fn model_config(&self, model: &str) -> Value {
        let url = format!("{}/v2/models/{model}/config", self.http);
        let response = ureq::get(&url).call();
        let mut response = response.unwrap_or_else(|error| panic!("{url}: {error}"));
        response.body_mut().read_json().expect("it is JSON")
    }

    /// As [`counts`](Self::counts), once it has counted this many successful requests: it counts a request after it has sent
    /// the response.
    pub fn counts_after(&self, model: &str, requests: u64) -> Counts {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let counts = self.counts(model);
            if counts.requests >= requests || Instant::now() > end {
                return counts;
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// What it has counted for a model until now.
    pub fn counts(&self, model: &str) -> Counts {
        let url = format!("{}/metrics", self.metrics);
        let response = ureq::get(&url).call();
        let mut response = response.unwrap_or_else(|error| panic!("{url}: {error}"));
        let text = response.body_mut().read_to_string().expect("metrics are text");
        let of_model = format!("model=\"{model}\"");
        let sum = |metric: &str| {
            let lines = text
                .lines()
                .filter_map(|line| line.strip_prefix(metric)?.strip_prefix('{'));
            let values = lines
                .filter(|line| line.contains(&of_model))
                .filter_map(|line| line.rsplit(' ').next());
            values.map(|value| value.parse::<f64>().expect("a number") as u64).sum()
        };
        Counts {
            requests: sum("nv_inference_request_success"),
            failures: sum("nv_inference_request_failure"),
            executions: sum("nv_inference_exec_count"),
            pending: sum("nv_inference_pending_request_count"),
        }
    }
}

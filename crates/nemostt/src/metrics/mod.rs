// SPDX-License-Identifier: MIT OR Apache-2.0

//! What an operator watches: how many streams there are, how their steps are batched, how long these wait and take.
//!
//! [`Recognizer::metrics`](crate::Recognizer::metrics) returns [`EngineMetrics`], [`Stream::metrics`](crate::Stream::metrics)
//! returns [`StreamMetrics`]. [`prometheus_text`] is for applications that serve `/metrics` over HTTP themselves:
//!
//! ```no_run
//! # fn main() -> nemostt::Result<()> {
//! let recognizer = nemostt::Recognizer::load("model-directory", &nemostt::Options::default())?;
//! // With the header "Content-Type: text/plain; version=0.0.4".
//! let body = nemostt::metrics::prometheus_text(&recognizer.all_metrics());
//! # Ok(())
//! # }
//! ```
//!
//! All are counted since the model was loaded, its warm-up included.

mod engine;
mod exposition;
mod histogram;
mod lane;
mod prometheus;
mod stream;

pub(crate) use self::{engine::EncoderMetrics, lane::Failures, stream::StreamCounters};
pub use self::{
    engine::EngineMetrics, histogram::Histogram, lane::LaneMetrics, prometheus::prometheus_text, stream::StreamMetrics,
};

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tests of the recognizer: against NeMo's reference values, and with corrupt, hostile and unsupported files.

#![allow(clippy::unwrap_used)] // a failed unwrap is how a test fails

#[path = "../common/mod.rs"]
mod common;
mod log;

mod batches;
mod beam;
mod boosting;
mod cache;
mod checkpoints;
#[cfg(target_os = "linux")]
mod churn;
mod corrupted;
mod device_batches;
mod features;
mod goldens;
mod graph_passes;
#[cfg(target_os = "linux")]
mod hostile;
mod languages;
mod layouts;
mod precision;
mod rejected_exports;
mod snapshot;
mod streams;

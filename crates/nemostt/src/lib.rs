// SPDX-License-Identifier: MIT OR Apache-2.0

#![doc = include_str!("../README.md")]
#![warn(unreachable_pub)]

pub mod chunker;
mod decode;
mod error;
pub mod features;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
#[allow(missing_docs)]
pub mod fuzzing;
mod memory_guard;
mod model;
mod recognizer;
pub mod sample_time;
pub mod sync;
pub mod text;
mod token;

pub use error::{Error, Result};
#[cfg(feature = "embedded-model")]
pub use model::EMBEDDED_LOOKAHEAD;
pub use model::{
    Cache, CacheDirectory, Cancellation, DecoderKind, Device, GraphFile, GraphOptimization, GraphPasses, Languages,
    LogLevel, ModelConfig, Options, PrecisionChoice, guard_thread, latency_samples, set_runtime_logger,
};
pub use nemostt_compiler::{
    GraphError, Precision, TensorInfo,
    pipeline::{Applied, NotApplied, PassReport},
};
pub use recognizer::{Observer, Recognizer, Snapshot, Stream, WeakRecognizer};
pub use text::{EndReason, EndpointConfig, Event, Utterance, Word};
pub use token::Token;

// SPDX-License-Identifier: MIT OR Apache-2.0

#![doc = include_str!("../README.md")]
#![warn(unreachable_pub)]

#[forbid(unsafe_code)]
mod boosting;
#[forbid(unsafe_code)]
pub mod chunker;
#[forbid(unsafe_code)]
mod confidence;
#[forbid(unsafe_code)]
pub mod cues;
#[forbid(unsafe_code)]
mod decode;
#[forbid(unsafe_code)]
mod device;
#[forbid(unsafe_code)]
mod error;
#[forbid(unsafe_code)]
pub mod features;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
#[allow(missing_docs)]
pub mod fuzzing;
#[forbid(unsafe_code)]
mod lane;
#[forbid(unsafe_code)]
mod language_model;
#[forbid(unsafe_code)]
mod memory_guard;
#[forbid(unsafe_code)]
pub mod metrics;
mod model;
#[forbid(unsafe_code)]
mod named;
#[forbid(unsafe_code)]
mod recognizer;
#[forbid(unsafe_code)]
pub mod sample_time;
#[forbid(unsafe_code)]
mod stream;
#[forbid(unsafe_code)]
pub mod sync;
#[forbid(unsafe_code)]
pub mod text;
#[forbid(unsafe_code)]
mod text_file;
#[forbid(unsafe_code)]
mod token;

pub use boosting::{BoostingTree, Hotword, Hotwords};
pub use confidence::{Aggregation, ConfidenceConfig, Measure};
pub use decode::{BeamConfig, DecodingMethod};
pub use device::{Device, OpenVinoDevice, UnknownDevice};
pub use error::{Error, Result};
pub use lane::Class as StreamClass;
pub use language_model::LanguageModel;
pub use metrics::{EngineMetrics, LaneMetrics, StreamMetrics};
#[cfg(feature = "embedded-model")]
pub use model::EMBEDDED_LOOKAHEAD;
pub use model::{
    Cache, CacheDirectory, Cancellation, DecoderKind, Difference, GraphFile, GraphOptimization, GraphPasses, Languages,
    LogLevel, ModelConfig, ModelIdentity, Options, PrecisionChoice, ServedEncoder, ServedFiles, ServedState,
    ServedTensor, ServedTensors, guard_thread, latency_samples, set_runtime_logger,
};
#[cfg(feature = "triton")]
pub use model::{RemoteFallback, RemoteOptions, RetryDelays, ServerStatus};
pub use named::Named;
pub use nemostt_compiler::{
    ElementType, GraphError, Precision, TensorInfo,
    pipeline::{Applied, NotApplied, PassReport},
};
#[cfg(feature = "triton")]
pub use nemostt_triton::{Address as RemoteAddress, AddressError as RemoteAddressError, Interrupt};
pub use recognizer::{Recognizer, WeakRecognizer};
pub use stream::{Observer, Snapshot, Stream};
#[cfg(feature = "triton")]
pub use stream::{RemoteChange, RemoteState};
pub use text::{Alternative, EndReason, EndpointConfig, Event, Partial, TextShaping, Utterance, Word};
pub use token::Token;

// SPDX-License-Identifier: MIT OR Apache-2.0

//! A loaded model: its graphs, vocabulary and parameters, checked once and shared by all streams.

mod cancellation;
mod compile;
mod compiled_cache;
mod directory;
mod dylib;
#[cfg(feature = "embedded-model")]
mod embedded;
mod encoder;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod failing_device;
mod fallback;
mod file_kind;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod graph_dump;
mod joint;
mod joint_head;
mod length_graph;
mod load;
mod options;
mod precision_variants;
mod predictor;
mod processors;
#[cfg(feature = "triton")]
mod remote_options;
mod runtime;
mod served;
mod sidecar;
mod state_buffers;
mod target;
mod thread_policy;
mod transducer;

use std::time::Duration;

pub use cancellation::Cancellation;
pub use directory::GraphFile;
#[cfg(feature = "embedded-model")]
pub use embedded::EMBEDDED_LOOKAHEAD;
#[cfg(feature = "triton")]
pub use encoder::ServerStatus;
#[cfg(all(feature = "triton", any(test, feature = "fuzzing")))]
pub(crate) use encoder::twin;
pub(crate) use encoder::{Encoder, EncoderSnapshot, EncoderState, HeadTensors};
#[cfg(feature = "triton")]
pub(crate) use encoder::{RemoteEncoder, RemoteProbe};
pub(crate) use fallback::{CpuFallback, Loaded as Fallback, is_device_failure};
pub use options::{Cache, CacheDirectory, DecoderKind, GraphOptimization, Options, PrecisionChoice};
#[cfg(feature = "triton")]
pub use remote_options::{RemoteFallback, RemoteOptions, RetryDelays};
pub(crate) use runtime::Tensor;
#[cfg(feature = "triton")]
pub(crate) use runtime::log;
pub use runtime::{LogLevel, guard_thread, set_runtime_logger};
pub use served::{Difference, ModelIdentity, ServedEncoder, ServedFiles, ServedState, ServedTensor, ServedTensors};
pub use sidecar::Languages;
pub(crate) use transducer::{ChunkFrames, PrefixState, Transducer, TransducerSnapshot, TransducerState};

use crate::{
    boosting::TreeCache,
    chunker::SUBSAMPLING_FACTOR,
    device::Device,
    features::FrontEndConfig,
    metrics::{EncoderMetrics, EngineMetrics, StreamCounters},
    sample_time::samples_to_ns,
    text::Vocabulary,
};
use nemostt_compiler::{Contract, Precision, StreamingConfig, pipeline::PassReport};

/// A loaded model.
pub(crate) struct Model {
    pub(crate) config: ModelConfig,
    pub(crate) vocabulary: Vocabulary,
    pub(crate) graphs: Vec<GraphFile>,
    pub(crate) encoder: Encoder,
    /// `None` if the encoder graph has a CTC head.
    pub(crate) transducer: Option<Transducer>,
    /// What its streams move to if the device fails.
    pub(crate) fallback: Option<CpuFallback>,
    /// What its streams have done.
    pub(crate) counters: StreamCounters,
    /// The path that it was loaded from, or `embedded`.
    name: String,
    /// Boosting trees in use.
    pub(crate) boosting: TreeCache,
}

/// The outcome of each pass over a graph of the model: see [`nemostt_compiler::pipeline`].
#[derive(Debug, Clone, Copy)]
pub struct GraphPasses<'a> {
    /// The graph.
    pub graph: &'static str,
    /// Its passes in order; empty if it runs as exported.
    pub passes: &'a [PassReport],
}

/// Parameters of a loaded model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The mel front end.
    pub front_end: FrontEndConfig,
    /// The encoder.
    pub streaming: StreamingConfig,
    /// Lookahead in use, in encoder frames.
    pub lookahead: usize,
    /// All lookaheads that the model supports, in encoder frames.
    pub lookaheads: Vec<usize>,
    /// Number of tokens in the vocabulary: special tokens and the unknown token count, blank does not.
    pub vocabulary_size: usize,
    /// The decoder in use: `Rnnt` or `Ctc`.
    pub decoder: DecoderKind,
    /// The device in use; never `Auto`.
    pub device: Device,
    /// Intra-op threads; 0: one per physical core.
    pub threads: usize,
    /// Maximum tokens that RNN-T decoding emits per encoder frame.
    pub max_symbols: usize,
    /// Precision of most encoder weights: that of the file, or int8 if they were quantized.
    pub precision: Precision,
    /// The layout and other properties of the exported encoder.
    pub contract: Contract,
    /// The languages of a multilingual model.
    pub languages: Option<Languages>,
}

impl ModelConfig {
    /// Lookahead in use, in milliseconds.
    pub fn lookahead_ms(&self) -> u64 {
        self.lookahead as u64 * self.frame_samples() * 1000 / u64::from(self.front_end.sample_rate)
    }

    /// Samples per encoder frame: 1280 (80 ms) in every published model.
    pub fn frame_samples(&self) -> u64 {
        (self.front_end.hop * SUBSAMPLING_FACTOR) as u64
    }

    /// Samples that must have arrived before the first sample of a chunk is decoded, in the worst case: the chunk
    /// itself, and the half STFT window that its last mel frame extends beyond it, or the hop to the next frame if that
    /// is longer.
    pub fn latency_samples(&self) -> u64 {
        latency_samples(&self.front_end, self.lookahead)
    }
}

/// See [`ModelConfig::latency_samples`].
pub fn latency_samples(front_end: &FrontEndConfig, lookahead: usize) -> u64 {
    let chunk = (lookahead + 1) * SUBSAMPLING_FACTOR * front_end.hop;
    (chunk + (front_end.window / 2).max(front_end.hop)) as u64
}

impl Model {
    pub(crate) fn passes(&self) -> Vec<GraphPasses<'_>> {
        let encoder = GraphPasses {
            graph: "encoder",
            passes: self.encoder.passes(),
        };
        let prediction = self.transducer.as_ref().map(|transducer| GraphPasses {
            graph: "prediction network",
            passes: transducer.passes(),
        });
        [encoder].into_iter().chain(prediction).collect()
    }

    /// What its streams have done.
    pub(crate) fn metrics(&self) -> EngineMetrics {
        let EncoderMetrics {
            streams,
            bytes_per_stream,
            spare_slots,
            lanes,
        } = self.encoder.metrics();
        let (samples, words) = self.counters.totals();
        let ns = samples_to_ns(samples, self.config.front_end.sample_rate);
        EngineMetrics {
            model: self.name.clone(),
            device: self.config.device,
            precision: self.config.precision,
            lookahead_ms: self.config.lookahead_ms(),
            streams,
            streams_started: self.counters.started(),
            audio: Duration::from_nanos(ns),
            words,
            errors: self.counters.errors(),
            bytes_per_stream,
            spare_slots,
            lanes,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is how a test fails
mod tests {
    use nemostt_compiler::{Component, Graph, TransducerGraphs, import, read_file};

    /// Reads a graph without external weights; `path` is relative to this crate.
    pub(super) fn graph_in(path: &str) -> Graph {
        let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
        Graph::decode_file(read_file(path.as_ref()).unwrap()).unwrap()
    }

    /// Prediction network and joint in one file; `path` is relative to this crate.
    pub(super) fn transducer_in(path: &str) -> TransducerGraphs {
        match import(graph_in(path)).unwrap().1 {
            Component::Transducer(graphs) => *graphs,
            component => panic!("{path} is {component:?}"),
        }
    }
}

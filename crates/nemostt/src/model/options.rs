// SPDX-License-Identifier: MIT OR Apache-2.0

//! Options for loading a model.

use std::path::PathBuf;

use super::Cancellation;
#[cfg(feature = "triton")]
use super::RemoteOptions;
use crate::device::Device;

/// How a model is loaded and run.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Right context in milliseconds that the encoder sees before a frame is decoded: a multiple of the encoder frame
    /// (80 ms) that the model supports. `None`: the lookahead that the model was exported with.
    pub lookahead: Option<u32>,
    /// Which decoder is used.
    pub decoder: DecoderKind,
    /// Device that the graphs run on.
    pub device: Device,
    /// Intra-op threads; 0 uses one for a small model, and one per physical core, at most 8, for a large one. At most
    /// the number of processors that the loading thread may use (affinity, quotas of control groups); a larger number
    /// is reduced, which is logged.
    pub threads: usize,
    /// Streams whose steps are computed together at most; `None`: on the CPU, as many as it computes in about the time that
    /// reading the weights takes, and 64 on a GPU.
    pub max_batch: Option<usize>,
    /// Streams that there may be at the same time on a GPU, where memory for all of them is allocated when the model is
    /// loaded; `None`: as many as fit in 512 MiB, but enough for a batch. One more is an error. No effect on the CPU, where streams are not limited.
    pub max_streams: Option<usize>,
    /// Whether CUDA records the runs of a batch and replays them (CUDA graphs).
    pub cuda_graphs: bool,
    /// Runs the encoder on the CPU as it runs on a GPU: for tests.
    #[doc(hidden)]
    pub batch_on_cpu: bool,
    /// Teams of threads that compute steps independently of each other, each with a share of the streams; `None`: one per
    /// group of processors that share a cache, or, if a step takes a single thread, one per core.
    pub lanes: Option<usize>,
    /// Whether graphs are specialized: the encoder for its window size, the prediction network for one token per run.
    pub graph_optimization: GraphOptimization,
    /// Precision of the encoder's matrix multiplications.
    pub precision: PrecisionChoice,
    /// The inference server that runs the encoder; `None`: it runs here.
    #[cfg(feature = "triton")]
    pub remote: Option<RemoteOptions>,
    /// Maximum tokens that RNN-T decoding emits per encoder frame. NeMo's greedy decoding allows 10.
    pub max_symbols: usize,
    /// Cache of compiled encoders, which makes later starts faster.
    pub cache: Cache,
    /// A directory to which the encoder's graph is written after each pass, for ONNX viewers. Nothing is written if the
    /// encoder is read from the cache, because then no passes run.
    pub dump_graphs: Option<PathBuf>,
    /// Directories in which ONNX Runtime's library is searched, after `ORT_DYLIB_PATH` and before the loader's path.
    pub runtime_directories: Vec<PathBuf>,
    /// Cancels the load.
    pub cancellation: Cancellation,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lookahead: None,
            decoder: DecoderKind::Auto,
            device: Device::Auto,
            threads: 0,
            max_batch: None,
            lanes: None,
            max_streams: None,
            cuda_graphs: true,
            batch_on_cpu: false,
            graph_optimization: GraphOptimization::All,
            precision: PrecisionChoice::Auto,
            #[cfg(feature = "triton")]
            remote: None,
            max_symbols: 10,
            cache: Cache::default(),
            dump_graphs: None,
            runtime_directories: Vec::new(),
            cancellation: Cancellation::default(),
        }
    }
}

/// Cache of compiled encoders: rewritten, packed for this processor, quantized. A failure of the cache is not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// The directory.
    pub directory: CacheDirectory,
    /// Minimum size in bytes of a model's files: compiling smaller models takes negligible time.
    pub smallest: u64,
    /// Maximum size in bytes of all entries; the least recently used ones are evicted. `None`: the number of megabytes
    /// in the environment variable `NEMOSTT_CACHE_SIZE`, by default 4 GiB.
    pub size: Option<u64>,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            directory: CacheDirectory::default(),
            smallest: 32 << 20,
            size: None,
        }
    }
}

/// A directory for a [`Cache`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CacheDirectory {
    /// `nemostt/graphs` in `$XDG_CACHE_HOME`, else in `~/.cache`; no cache if neither is known.
    #[default]
    Standard,
    /// No cache: encoders are compiled at each start.
    Off,
    /// This directory, which is created when the first entry is written.
    At(PathBuf),
}

/// Which decoder turns encoder frames into tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DecoderKind {
    /// RNN-T if the model supports it (fewer errors), else CTC.
    #[default]
    Auto,
    /// RNN-T: prediction network and joint.
    Rnnt,
    /// CTC.
    Ctc,
}

/// How a model's graphs are rewritten when they are loaded. The transcript is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GraphOptimization {
    /// All exact rewrites: fixed shapes, cached keys and values, constant-folded masks and positions, an embedding
    /// table with the first LSTM layer's input GEMM folded in.
    #[default]
    All,
    /// The graph as exported, except that the number of dropped outputs becomes an input.
    None,
}

/// Precision of the encoder's matrix multiplications. Prediction network and joint are not affected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PrecisionChoice {
    /// That of the file.
    #[default]
    Auto,
    /// Float32. 16-bit weights are converted; 8-bit weights remain.
    Fp32,
    /// Int8, quantized from float32 when the model is loaded. Faster, but a few words differ. CPU only.
    Int8,
}

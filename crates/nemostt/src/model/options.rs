// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the caller chooses when a model is loaded.

use std::path::PathBuf;

use super::Cancellation;

/// How a model is loaded and run.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Audio the encoder sees beyond the frame it decides on, in milliseconds: a multiple of the encoder frame (80 ms)
    /// that the model allows. `None`: the lookahead the model was exported with.
    pub lookahead: Option<u32>,
    /// Which decoder turns encoder frames into labels.
    pub decoder: DecoderKind,
    /// Where the graphs run.
    pub device: Device,
    /// Threads within one operation; 0 takes one for a small model and one per physical core, at most 8, for
    /// a large one. There are no more than processors that the loading thread may use (affinity, quotas of control groups): a
    /// greater number is cut with a line in the log.
    pub threads: usize,
    /// Whether graphs are rewritten for what they will be run on: the encoder for its windows, the prediction network for
    /// one label.
    pub graph_optimization: GraphOptimization,
    /// What the encoder's matrix products are computed in.
    pub precision: PrecisionChoice,
    /// Labels that RNN-T decoding may emit in one encoder frame. NeMo's greedy decoding allows 10.
    pub max_symbols: usize,
    /// Where prepared encoders are kept, so that the next start is faster.
    pub cache: Cache,
    /// Where ONNX Runtime's library is looked for after `ORT_DYLIB_PATH` and before the loader's path.
    pub runtime_directories: Vec<PathBuf>,
    /// Ends the load early.
    pub cancellation: Cancellation,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lookahead: None,
            decoder: DecoderKind::Auto,
            device: Device::Auto,
            threads: 0,
            graph_optimization: GraphOptimization::All,
            precision: PrecisionChoice::Auto,
            max_symbols: 10,
            cache: Cache::default(),
            runtime_directories: Vec::new(),
            cancellation: Cancellation::default(),
        }
    }
}

/// Where prepared encoders are kept: rewritten, packed for this processor, made int8. Nothing fails for want of a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// The directory.
    pub directory: CacheDirectory,
    /// Models whose files have fewer bytes are not kept: preparing them takes no time worth mentioning.
    pub smallest: u64,
    /// Most bytes of all that is kept; what was not used for longest goes. `None`: as many megabytes as the environment
    /// variable `NEMOSTT_CACHE_SIZE` says, else 4 GiB.
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
    /// `nemostt/graphs` in `$XDG_CACHE_HOME`, else in `~/.cache`; none where neither is known.
    #[default]
    Standard,
    /// None: every start prepares its encoder.
    Off,
    /// This one. It is made when something is first kept.
    At(PathBuf),
}

/// Which decoder turns encoder frames into labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DecoderKind {
    /// RNN-T where the model has it (fewer errors), else CTC.
    #[default]
    Auto,
    /// Greedy RNN-T: prediction network and joint.
    Rnnt,
    /// Greedy CTC.
    Ctc,
}

/// What is done to a model's graphs when they are loaded. The text is the same either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GraphOptimization {
    /// Every exact rewrite: fixed shapes, cached keys and values, folded masks and positions, a table of labels.
    #[default]
    All,
    /// The export as it is, but for the number of dropped outputs, which becomes an input.
    None,
}

/// What the encoder's matrix products are computed in. Prediction network and joint stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PrecisionChoice {
    /// As the file holds them: the text is that of the file.
    #[default]
    Auto,
    /// Float32. 16 bits of a file are widened; what a file holds in 8 bits stays so.
    Fp32,
    /// 8 bits, made from float32 when the model is loaded. Faster, and a few words are others. On the processor only.
    Int8,
}

/// Where the graphs run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// CUDA where this ONNX Runtime has it, else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The first CUDA device; an error where there is none.
    Cuda,
}

impl Device {
    /// Its name in messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

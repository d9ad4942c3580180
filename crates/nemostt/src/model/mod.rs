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
mod options;
mod precision_variants;
mod predictor;
mod processors;
mod runtime;
mod sidecar;
mod state_buffers;
mod target;
mod thread_policy;
mod transducer;

use std::path::Path;

pub use cancellation::Cancellation;
pub use directory::GraphFile;
use directory::{ModelFiles, NamedEncoder, TransducerParts};
#[cfg(feature = "embedded-model")]
pub use embedded::EMBEDDED_LOOKAHEAD;
pub use encoder::EngineMetrics;
pub(crate) use encoder::{Encoder, EncoderSnapshot, EncoderState, HeadTensors};
use fallback::Source;
pub(crate) use fallback::{CpuFallback, Loaded as Fallback, is_device_failure};
pub use options::{Cache, CacheDirectory, DecoderKind, GraphOptimization, Options, PrecisionChoice};
pub(crate) use runtime::Tensor;
pub use runtime::{LogLevel, guard_thread, set_runtime_logger};
pub use sidecar::Languages;
use sidecar::Sidecar;
use target::Target;
pub(crate) use transducer::{Transducer, TransducerSnapshot, TransducerState};

use crate::{
    boosting::TreeCache,
    chunker::{SUBSAMPLING_FACTOR, full_width},
    device::Device,
    error::{Error, Result},
    features::FrontEndConfig,
    text::Vocabulary,
};
use nemostt_compiler::{Contract, GraphError, Precision, StreamingConfig, pipeline::PassReport};

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

    /// Loads the model in directory `path`, or the one whose encoder or CTC graph is the file `path`.
    pub(crate) fn load(path: &Path, options: &Options) -> Result<Self> {
        let load = || {
            Self::build(
                ModelFiles::open(path, compiled_cache::min_model_size(options))?,
                options,
            )
        };
        #[cfg(any(test, feature = "fuzzing"))]
        let load = || failing_device::FailingDevice::during(path, load);
        let model = load()?;
        Ok(model.with_fallback(Source::Path(path.into()), options))
    }

    /// Loads the built-in demo model.
    #[cfg(feature = "embedded-model")]
    pub(crate) fn embedded(options: &Options) -> Result<Self> {
        let model = Self::build(embedded::files()?, options)?;
        Ok(model.with_fallback(Source::Embedded, options))
    }

    fn with_fallback(mut self, source: Source, options: &Options) -> Self {
        self.fallback = CpuFallback::new(source, options, self.config.device);
        self
    }

    fn build(files: ModelFiles, options: &Options) -> Result<Self> {
        let mut sidecar = Sidecar::read(files.sidecar.as_ref())?;
        let parts = (files.encoder, files.transducer, files.ctc);
        let (decoder, body, transducer_parts) = pick_decoder(&files.origin, parts, options.decoder)?;
        let (graph, contract) = (&body.part.graph, body.part.contract);

        sidecar.complete(graph).map_err(|fault| body.bad(fault))?;
        let streaming = StreamingConfig::read(graph).map_err(|fault| body.bad(fault))?;
        let front_end = FrontEndConfig::new(&sidecar.preprocessor, streaming.mels).map_err(|fault| body.bad(fault))?;
        if let Some(frames) = contract.fixed_frames
            && !(0..streaming.chunk_frames).any(|lookahead| full_width(lookahead) == frames)
        {
            let what = format!(
                "its windows are fixed to {frames} mel frames, which does not match any lookahead that it supports"
            );
            return Err(body.bad(GraphError::Contradiction { what }));
        }
        let lookaheads = allowed_lookaheads(&streaming, &contract, sidecar.lookaheads.as_deref());
        let lookahead = pick_lookahead(&streaming, &front_end, &lookaheads, options.lookahead)?;
        let languages = languages(&contract, sidecar.prompt).map_err(|fault| body.bad(fault))?;

        let target = Target::resolve(options)?;
        let (mut transducer, mut head) = (None, None);
        if let Some(parts) = transducer_parts {
            let (loaded, loaded_head) = Transducer::load(parts, streaming.d_model, lookahead + 1, &target)?;
            (transducer, head) = (Some(loaded), loaded_head);
        }
        let vocabulary_size = match &transducer {
            Some(transducer) => transducer.vocabulary_size(),
            None => {
                ctc_tokens(graph).ok_or_else(|| body.bad(GraphError::CannotInfer("the number of its tokens".into())))?
            }
        };
        let (file, bytes) = (&files.vocabulary.name, &files.vocabulary.bytes);
        let mut vocabulary = Vocabulary::parse(file, bytes, vocabulary_size).map_err(|error| {
            let known = transducer.as_ref().zip(Vocabulary::count(file, bytes));
            let other_head = known.and_then(|(transducer, known)| transducer.other_head(known));
            other_head.unwrap_or(error)
        })?;
        if let Some(tokenizer) = &files.tokenizer {
            vocabulary.complete_from(&tokenizer.name, &tokenizer.bytes);
        }
        vocabulary.set_special(sidecar.special.end_of_utterance, "<EOU>");
        vocabulary.set_special(sidecar.special.end_of_backchannel, "<EOB>");
        let encoder = Encoder::load(
            body,
            streaming,
            lookahead,
            transducer.is_none().then_some(vocabulary_size),
            head.as_ref(),
            &target,
        )?;
        if let (Some(transducer), Some(head), false) = (&mut transducer, head, encoder.has_head()) {
            transducer.run_head_standalone(head, &target)?;
        }

        let config = ModelConfig {
            front_end,
            streaming,
            lookahead,
            lookaheads,
            vocabulary_size,
            decoder,
            device: encoder.device(),
            threads: encoder.threads(),
            max_symbols: options.max_symbols.max(1),
            precision: encoder.precision(),
            contract,
            languages,
        };
        Ok(Self {
            config,
            vocabulary,
            graphs: files.graphs,
            encoder,
            transducer,
            fallback: None,
            boosting: TreeCache::default(),
        })
    }
}

/// The languages of a multilingual model, whose encoder needs a language prompt.
fn languages(contract: &Contract, prompt: Option<Languages>) -> std::result::Result<Option<Languages>, GraphError> {
    let Some(prompts) = contract.prompt else {
        return Ok(None);
    };
    let Some(languages) = prompt else {
        return Err(GraphError::Prompt(
            "it is multilingual, but the prompts of its languages are unknown. Add them to nemostt.json \
             next to it: {\"prompt\": {\"dictionary\": {\"en-US\": 0, …}, \"auto\": 101}}; tools/export_nemo.py writes them"
                .into(),
        ));
    };
    let is_valid = |id: &i64| *id >= 0 && prompts.is_none_or(|prompts| (*id as usize) < prompts);
    match languages
        .dictionary
        .values()
        .chain(&languages.auto)
        .find(|id| !is_valid(id))
    {
        Some(id) => Err(GraphError::Prompt(format!(
            "its languages have prompts up to {id}, but it has {} prompts",
            prompts.unwrap_or_default()
        ))),
        None => Ok(Some(languages)),
    }
}

/// The decoder to use, the graph with the encoder, and prediction network and joint if they are used.
fn pick_decoder(
    origin: &str,
    parts: (Option<NamedEncoder>, Option<TransducerParts>, Option<NamedEncoder>),
    requested: DecoderKind,
) -> Result<(DecoderKind, NamedEncoder, Option<TransducerParts>)> {
    use DecoderKind::{Auto, Ctc, Rnnt};
    let (requested, needs) = match (requested, parts) {
        (Auto | Rnnt, (Some(encoder), Some(joint), _)) => return Ok((Rnnt, encoder, Some(joint))),
        (Auto | Ctc, (_, _, Some(ctc))) => return Ok((Ctc, ctc, None)),
        (Ctc, _) => ("ctc", "a graph with output logprobs (export with decoder_type ctc)"),
        (Auto | Rnnt, _) => (
            "rnnt",
            "an encoder with its decoder_joint graph, or with decoder and joiner (export with decoder_type rnnt)",
        ),
    };
    Err(Error::Decoder {
        requested,
        needs,
        path: origin.into(),
    })
}

fn ctc_tokens(graph: &nemostt_compiler::Graph) -> Option<usize> {
    let classes = graph.output("logprobs")?.dims.last().copied().flatten()?;
    classes.checked_sub(1)
}

/// The lookaheads, in encoder frames, that the graph supports and the model was `trained` for.
fn allowed_lookaheads(streaming: &StreamingConfig, contract: &Contract, trained: Option<&[usize]>) -> Vec<usize> {
    let mut allowed = match contract.fixed_frames {
        // The window width is fixed, so the chunk size is, too.
        Some(frames) => (0..streaming.chunk_frames)
            .filter(|&lookahead| full_width(lookahead) == frames)
            .collect(),
        None => streaming.lookaheads(),
    };
    if let Some(trained) = trained {
        allowed.retain(|lookahead| trained.contains(lookahead));
    }
    allowed
}

/// The lookahead in encoder frames.
fn pick_lookahead(
    streaming: &StreamingConfig,
    front_end: &FrontEndConfig,
    allowed: &[usize],
    requested: Option<u32>,
) -> Result<usize> {
    let frame_ms = (front_end.hop * SUBSAMPLING_FACTOR * 1000) as u32 / front_end.sample_rate;
    let Some(requested) = requested else {
        // The lookahead of the export, which is the largest, unless the model was not trained with it.
        return Ok(allowed.last().copied().unwrap_or(streaming.chunk_frames - 1));
    };
    let found = allowed
        .iter()
        .find(|&&lookahead| lookahead as u32 * frame_ms == requested);
    found.copied().ok_or_else(|| Error::Lookahead {
        requested,
        allowed: allowed.iter().map(|&lookahead| lookahead as u32 * frame_ms).collect(),
    })
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

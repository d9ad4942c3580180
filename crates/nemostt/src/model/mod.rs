// SPDX-License-Identifier: MIT OR Apache-2.0

//! A loaded model: its graphs, its vocabulary and its numbers, checked once and shared by every stream.

mod cancellation;
mod compile;
mod compiled_cache;
mod custom_op_policy;
mod directory;
mod dylib;
#[cfg(feature = "embedded-model")]
mod embedded;
mod encoder;
mod file_kind;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
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
mod thread_policy;
mod transducer;

use std::path::Path;

pub use cancellation::Cancellation;
pub use directory::GraphFile;
use directory::{ModelFiles, NamedEncoder, TransducerParts};
#[cfg(feature = "embedded-model")]
pub use embedded::EMBEDDED_LOOKAHEAD;
pub(crate) use encoder::{Encoder, EncoderSnapshot, EncoderState};
pub use options::{Cache, CacheDirectory, DecoderKind, Device, GraphOptimization, Options, PrecisionChoice};
pub(crate) use runtime::Tensor;
pub use runtime::{LogLevel, guard_thread, set_runtime_logger};
pub use sidecar::Languages;
use sidecar::Sidecar;
pub(crate) use transducer::{Transducer, TransducerSnapshot, TransducerState};

use crate::{
    chunker::{SUBSAMPLING_FACTOR, full_width},
    error::{Error, Result},
    features::FrontEndConfig,
    text::Vocabulary,
};
use nemostt_compiler::{Contract, GraphError, Precision, StreamingConfig};

/// A model, ready to run.
pub(crate) struct Model {
    pub(crate) config: ModelConfig,
    pub(crate) vocabulary: Vocabulary,
    pub(crate) graphs: Vec<GraphFile>,
    pub(crate) encoder: Encoder,
    /// `None`: the encoder graph ends in a CTC head.
    pub(crate) transducer: Option<Transducer>,
}

/// The numbers of a loaded model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Its mel front end.
    pub front_end: FrontEndConfig,
    /// Its encoder.
    pub streaming: StreamingConfig,
    /// Lookahead in use, in encoder frames.
    pub lookahead: usize,
    /// All lookaheads that the model allows, in encoder frames.
    pub lookaheads: Vec<usize>,
    /// Labels without blank.
    pub labels: usize,
    /// The decoder in use: `Rnnt` or `Ctc`.
    pub decoder: DecoderKind,
    /// The device in use: `Cpu` or `Cuda`.
    pub device: Device,
    /// Threads within one operation; 0: one per physical core.
    pub threads: usize,
    /// Labels that RNN-T decoding may emit in one encoder frame.
    pub max_symbols: usize,
    /// What most of the weights of the encoder are: in its file, or int8 where they were made that.
    pub precision: Precision,
    /// The layout that the encoder came in, and what else it is like.
    pub contract: Contract,
    /// The languages of a multilingual model.
    pub languages: Option<Languages>,
}

impl ModelConfig {
    /// Lookahead in use, in milliseconds.
    pub fn lookahead_ms(&self) -> u64 {
        self.lookahead as u64 * self.frame_samples() * 1000 / u64::from(self.front_end.sample_rate)
    }

    /// Samples from one encoder frame to the next: 1280 (80 ms) in every published model.
    pub fn frame_samples(&self) -> u64 {
        (self.front_end.hop * SUBSAMPLING_FACTOR) as u64
    }

    /// Samples that must have come before the first sample of a chunk is decided on, at worst: the chunk itself and the
    /// half window that its last mel frame reaches beyond it, or the step to the next one if that is longer.
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
    /// Loads the model in directory `path`, or the one whose encoder or CTC graph is the file `path`.
    pub(crate) fn load(path: &Path, options: &Options) -> Result<Self> {
        Self::build(
            ModelFiles::open(path, compiled_cache::min_model_size(options))?,
            options,
        )
    }

    /// Loads the model that is compiled in.
    #[cfg(feature = "embedded-model")]
    pub(crate) fn embedded(options: &Options) -> Result<Self> {
        Self::build(embedded::files()?, options)
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
            let what =
                format!("its windows are fixed to {frames} mel frames, which is no window of a lookahead it allows");
            return Err(body.bad(GraphError::Contradiction { what }));
        }
        let lookaheads = allowed_lookaheads(&streaming, &contract, sidecar.lookaheads.as_deref());
        let lookahead = pick_lookahead(&streaming, &front_end, &lookaheads, options.lookahead)?;
        let languages = languages(&contract, sidecar.prompt).map_err(|fault| body.bad(fault))?;

        let (mut transducer, mut head) = (None, None);
        if let Some(parts) = transducer_parts {
            let (loaded, its_head) = Transducer::load(parts, streaming.d_model, lookahead + 1, options)?;
            (transducer, head) = (Some(loaded), its_head);
        }
        let labels = match &transducer {
            Some(transducer) => transducer.labels(),
            None => {
                ctc_labels(graph).ok_or_else(|| body.bad(GraphError::CannotInfer("the number of its labels".into())))?
            }
        };
        let (file, bytes) = (&files.vocabulary.name, &files.vocabulary.bytes);
        let mut vocabulary = Vocabulary::parse(file, bytes, labels).map_err(|error| {
            let known = transducer.as_ref().zip(Vocabulary::count(file, bytes));
            let other_head = known.and_then(|(transducer, known)| transducer.other_head(known));
            other_head.unwrap_or(error)
        })?;
        vocabulary.mark(sidecar.special.end_of_utterance, "<EOU>");
        vocabulary.mark(sidecar.special.end_of_backchannel, "<EOB>");
        let encoder = Encoder::load(
            body,
            streaming,
            lookahead,
            transducer.is_none().then_some(labels),
            head.as_ref(),
            options,
        )?;
        if let (Some(transducer), Some(head), false) = (&mut transducer, head, encoder.has_head()) {
            transducer.run_head_standalone(head, options)?;
        }

        let config = ModelConfig {
            front_end,
            streaming,
            lookahead,
            lookaheads,
            labels,
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
        })
    }
}

/// The languages of a multilingual model: its encoder must be told one.
fn languages(contract: &Contract, prompt: Option<Languages>) -> std::result::Result<Option<Languages>, GraphError> {
    let Some(prompts) = contract.prompt else {
        return Ok(None);
    };
    let Some(languages) = prompt else {
        return Err(GraphError::Prompt(
            "it is multilingual, and nothing says which prompt stands for which language. Put them into nemostt.json \
             beside it: {\"prompt\": {\"dictionary\": {\"en-US\": 0, …}, \"auto\": 101}}; tools/export_nemo.py writes them"
                .into(),
        ));
    };
    let known = |id: &i64| *id >= 0 && prompts.is_none_or(|prompts| (*id as usize) < prompts);
    match languages
        .dictionary
        .values()
        .chain(&languages.auto)
        .find(|id| !known(id))
    {
        Some(id) => Err(GraphError::Prompt(format!(
            "its languages have prompts up to {id}, but it takes {} of them",
            prompts.unwrap_or_default()
        ))),
        None => Ok(Some(languages)),
    }
}

/// The decoder in use, the graph that holds the encoder, and prediction network and joint, if they are used.
fn pick_decoder(
    origin: &str,
    parts: (Option<NamedEncoder>, Option<TransducerParts>, Option<NamedEncoder>),
    asked: DecoderKind,
) -> Result<(DecoderKind, NamedEncoder, Option<TransducerParts>)> {
    use DecoderKind::{Auto, Ctc, Rnnt};
    let (requested, needs) = match (asked, parts) {
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

fn ctc_labels(graph: &nemostt_compiler::Graph) -> Option<usize> {
    let classes = graph.output("logprobs")?.dims.last().copied().flatten()?;
    classes.checked_sub(1)
}

/// The lookaheads, in encoder frames, that the graph serves and the model was `trained` for.
fn allowed_lookaheads(streaming: &StreamingConfig, contract: &Contract, trained: Option<&[usize]>) -> Vec<usize> {
    let mut allowed = match contract.fixed_frames {
        // The window has one width, so the chunk has one, too.
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
    asked: Option<u32>,
) -> Result<usize> {
    let frame_ms = (front_end.hop * SUBSAMPLING_FACTOR * 1000) as u32 / front_end.sample_rate;
    let Some(requested) = asked else {
        // The export's own, which is the largest, unless the model was not trained for it.
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

    /// Prediction network and joint in one file, whose path begins at this crate.
    pub(super) fn transducer_in(path: &str) -> TransducerGraphs {
        let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
        let graph = Graph::decode_file(read_file(path.as_ref()).unwrap()).unwrap();
        match import(graph).unwrap().1 {
            Component::Transducer(graphs) => *graphs,
            component => panic!("{path} is {component:?}"),
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Loading a model: its files are checked against each other and against the options, and its graphs are loaded.

#[cfg(test)]
mod tests;

use std::path::Path;

#[cfg(feature = "triton")]
use super::RemoteFallback;
#[cfg(feature = "embedded-model")]
use super::embedded;
#[cfg(any(test, feature = "fuzzing"))]
use super::failing_device::FailingDevice;
use super::{
    CpuFallback, DecoderKind, Encoder, GraphFile, Languages, Model, ModelConfig, Options, Transducer, compiled_cache,
    directory::{ModelFiles, NamedEncoder, SourceFile, TransducerParts},
    fallback::{Source, may_be_of_device},
    served::{IdentityParts, ModelIdentity, ServedTensors},
    sidecar::{Sidecar, Special},
    target::Target,
};
use crate::{
    boosting::TreeCache,
    chunker::{SUBSAMPLING_FACTOR, full_width},
    device::Device,
    error::{Error, Result},
    features::FrontEndConfig,
    metrics::StreamCounters,
    text::Vocabulary,
};
use nemostt_compiler::{Contract, GraphError, StreamingConfig};

impl Model {
    /// Loads the model in directory `path`, or the one whose encoder or CTC graph is the file `path`.
    pub(crate) fn load(path: &Path, options: &Options) -> Result<Self> {
        let load = || Source::Path(path.into()).load(options);
        #[cfg(any(test, feature = "fuzzing"))]
        let load = || FailingDevice::during(path, load);
        load()
    }

    /// Loads the built-in demo model.
    #[cfg(feature = "embedded-model")]
    pub(crate) fn embedded(options: &Options) -> Result<Self> {
        Source::Embedded.load(options)
    }
}

impl Source {
    /// Loads the model. If the device fails that was chosen automatically, loads it on the CPU.
    ///
    /// # Errors
    /// The files are no model, or do not match the options; [`Error::DeviceFailed`] if the device fails that the options name.
    fn load(self, options: &Options) -> Result<Model> {
        let checked = Checked::new(self.files(options)?, options)?;
        #[cfg(feature = "triton")]
        if options.remote.is_some() {
            return self.load_remote(checked, options);
        }
        let target = Target::resolve(options)?;
        let (device, name) = (target.device, self.name());
        let fallback = CpuFallback::new(self, options, device);
        match (checked.load(options, &target), fallback) {
            (Ok(model), fallback) => Ok(Model {
                fallback,
                name,
                ..model
            }),
            (Err(error), _) if device == Device::Cpu || !may_be_of_device(&error) => Err(error),
            (Err(error), Some(fallback)) => fallback.load_instead(&error, options),
            (Err(error), None) => Err(Error::DeviceFailed {
                device,
                reason: error.to_string(),
            }),
        }
    }

    /// Loads all of the model but its encoder, which a server runs.
    ///
    /// # Errors
    /// As [`load`](Self::load); if a server has another model, or none answers and streams do not go on on the CPU.
    #[cfg(feature = "triton")]
    fn load_remote(self, checked: Checked, options: &Options) -> Result<Model> {
        let here = Options {
            device: Device::Cpu,
            ..options.clone()
        };
        let (target, name) = (Target::resolve(&here)?, self.name());
        let fallback = CpuFallback::of_remote(self, options);
        let model = checked.load(options, &target)?;
        Ok(Model {
            fallback,
            name,
            ..model
        })
    }

    fn files(&self, options: &Options) -> Result<ModelFiles> {
        match self {
            #[cfg(feature = "triton")]
            Self::Path(path) if options.remote.is_some() => ModelFiles::open(path, Some(0)),
            Self::Path(path) => ModelFiles::open(path, compiled_cache::min_model_size(options)),
            #[cfg(feature = "embedded-model")]
            Self::Embedded => embedded::files(),
        }
    }
}

/// The files of a model, which match each other and the options, before anything is loaded onto a device.
pub(super) struct Checked {
    decoder: DecoderKind,
    pub(super) encoder: NamedEncoder,
    /// Prediction network and joint, if they are used.
    transducer: Option<TransducerParts>,
    vocabulary: SourceFile,
    /// What completes the vocabulary, if it lacks scores.
    tokenizer: Option<SourceFile>,
    special: Special,
    graphs: Vec<GraphFile>,
    pub(super) streaming: StreamingConfig,
    front_end: FrontEndConfig,
    pub(super) lookahead: usize,
    lookaheads: Vec<usize>,
    languages: Option<Languages>,
}

impl Checked {
    /// Opens the model in directory `path`, or the one whose encoder or CTC graph is the file `path`.
    pub(super) fn open(path: &Path, options: &Options) -> Result<Self> {
        Self::new(Source::Path(path.into()).files(options)?, options)
    }

    /// Opens the built-in demo model.
    #[cfg(feature = "embedded-model")]
    pub(super) fn embedded(options: &Options) -> Result<Self> {
        Self::new(Source::Embedded.files(options)?, options)
    }

    /// Milliseconds of an encoder frame.
    pub(super) fn frame_ms(&self) -> u64 {
        frame_ms(&self.front_end)
    }

    /// What an encoder on a server must have in common with it. Hashes the encoder's files.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(super) fn identity(&self) -> Result<ModelIdentity> {
        ModelIdentity::of(&IdentityParts {
            encoder: &self.encoder,
            streaming: &self.streaming,
            front_end: &self.front_end,
            lookahead: self.lookahead,
            vocabulary: &self.vocabulary,
        })
    }

    /// What requests to its encoder on a server contain.
    ///
    /// # Errors
    /// If the number of tokens of a CTC head is unknown.
    pub(super) fn served_tensors(&self) -> Result<ServedTensors> {
        let contract = &self.encoder.part.contract;
        let tokens = contract.ctc.then(|| self.ctc_tokens()).transpose()?;
        Ok(ServedTensors::of(&self.streaming, contract, self.lookahead, tokens))
    }

    fn ctc_tokens(&self) -> Result<usize> {
        let unknown = || {
            let fault = GraphError::CannotInfer("the number of its tokens".into());
            self.encoder.bad(fault)
        };
        ctc_tokens(&self.encoder.part.graph).ok_or_else(unknown)
    }

    fn new(files: ModelFiles, options: &Options) -> Result<Self> {
        let mut sidecar = Sidecar::read(files.sidecar.as_ref())?;
        let parts = (files.encoder, files.transducer, files.ctc);
        let (decoder, encoder, transducer) = pick_decoder(&files.origin, parts, options.decoder)?;
        let (graph, contract) = (&encoder.part.graph, encoder.part.contract);

        sidecar.complete(graph).map_err(|fault| encoder.bad(fault))?;
        let streaming = StreamingConfig::read(graph).map_err(|fault| encoder.bad(fault))?;
        let front_end =
            FrontEndConfig::new(&sidecar.preprocessor, streaming.mels).map_err(|fault| encoder.bad(fault))?;
        if let Some(frames) = contract.fixed_frames
            && !(0..streaming.chunk_frames).any(|lookahead| full_width(lookahead) == frames)
        {
            let what = format!(
                "its windows are fixed to {frames} mel frames, which does not match any lookahead that it supports"
            );
            return Err(encoder.bad(GraphError::Contradiction { what }));
        }
        let lookaheads = allowed_lookaheads(&streaming, &contract, sidecar.lookaheads.as_deref());
        let lookahead = pick_lookahead(&streaming, &front_end, &lookaheads, options.lookahead)?;
        let languages = languages(&contract, sidecar.prompt).map_err(|fault| encoder.bad(fault))?;
        Ok(Self {
            decoder,
            encoder,
            transducer,
            vocabulary: files.vocabulary,
            tokenizer: files.tokenizer,
            special: sidecar.special,
            graphs: files.graphs,
            streaming,
            front_end,
            lookahead,
            lookaheads,
            languages,
        })
    }

    fn load(self, options: &Options, target: &Target) -> Result<Model> {
        let Self {
            streaming, lookahead, ..
        } = self;
        #[cfg(feature = "triton")]
        let served = match &options.remote {
            Some(remote) => Some((remote, (self.identity()?, self.served_tensors()?))),
            None => None,
        };
        let (contract, body) = (self.encoder.part.contract, self.encoder);
        let (mut transducer, mut head) = (None, None);
        if let Some(parts) = self.transducer {
            let (loaded, loaded_head) = Transducer::load(parts, streaming.d_model, lookahead + 1, &target.on_cpu())?;
            (transducer, head) = (Some(loaded), loaded_head);
        }
        let vocabulary_size = match &transducer {
            Some(transducer) => transducer.vocabulary_size(),
            None => ctc_tokens(&body.part.graph)
                .ok_or_else(|| body.bad(GraphError::CannotInfer("the number of its tokens".into())))?,
        };
        let (file, bytes) = (&self.vocabulary.name, &self.vocabulary.bytes);
        let mut vocabulary = Vocabulary::parse(file, bytes, vocabulary_size).map_err(|error| {
            let known = transducer.as_ref().zip(Vocabulary::count(file, bytes));
            let other_head = known.and_then(|(transducer, known)| transducer.other_head(known));
            other_head.unwrap_or(error)
        })?;
        if let Some(tokenizer) = &self.tokenizer {
            vocabulary.complete_from(&tokenizer.name, &tokenizer.bytes);
        }
        vocabulary.set_special(self.special.end_of_utterance, "<EOU>");
        vocabulary.set_special(self.special.end_of_backchannel, "<EOB>");
        let ctc_tokens = transducer.is_none().then_some(vocabulary_size);
        let local = |body| Encoder::load(body, streaming, lookahead, ctc_tokens, head.as_ref(), target);
        #[cfg(feature = "triton")]
        let encoder = match served {
            Some((remote, served)) => {
                let needs_server = remote.fallback == RemoteFallback::None;
                let shape = (streaming, lookahead, ctc_tokens);
                Encoder::remote(&body, shape, served, (remote, needs_server), target)?
            }
            None => local(body)?,
        };
        #[cfg(not(feature = "triton"))]
        let encoder = local(body)?;
        if let (Some(transducer), Some(head), false) = (&mut transducer, head, encoder.has_head()) {
            transducer.run_head_standalone(head, &target.on_cpu())?;
        }

        let config = ModelConfig {
            front_end: self.front_end,
            streaming,
            lookahead,
            lookaheads: self.lookaheads,
            vocabulary_size,
            decoder: self.decoder,
            device: encoder.device(),
            threads: encoder.threads(),
            max_symbols: options.max_symbols.max(1),
            precision: encoder.precision(),
            contract,
            languages: self.languages,
        };
        Ok(Model {
            config,
            vocabulary,
            graphs: self.graphs,
            encoder,
            transducer,
            fallback: None,
            counters: StreamCounters::default(),
            name: String::new(),
            boosting: TreeCache::default(),
        })
    }
}

/// The languages of a multilingual model, whose encoder needs a language prompt.
pub(super) fn languages(
    contract: &Contract,
    prompt: Option<Languages>,
) -> std::result::Result<Option<Languages>, GraphError> {
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

fn frame_ms(front_end: &FrontEndConfig) -> u64 {
    (front_end.hop * SUBSAMPLING_FACTOR * 1000) as u64 / u64::from(front_end.sample_rate)
}

fn ctc_tokens(graph: &nemostt_compiler::Graph) -> Option<usize> {
    let classes = graph.output("logprobs")?.dims.last().copied().flatten()?;
    classes.checked_sub(1)
}

/// The lookaheads, in encoder frames, that the graph supports and the model was `trained` for.
pub(super) fn allowed_lookaheads(
    streaming: &StreamingConfig,
    contract: &Contract,
    trained: Option<&[usize]>,
) -> Vec<usize> {
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
pub(super) fn pick_lookahead(
    streaming: &StreamingConfig,
    front_end: &FrontEndConfig,
    allowed: &[usize],
    requested: Option<u32>,
) -> Result<usize> {
    let frame_ms = frame_ms(front_end) as u32;
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

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Loading a model: its files are checked against each other and against the options, and its graphs are loaded.

use std::path::Path;

#[cfg(any(test, feature = "fuzzing"))]
use super::failing_device::FailingDevice;
use super::{
    CpuFallback, DecoderKind, Encoder, Languages, Model, ModelConfig, Options, Transducer, compiled_cache,
    directory::{ModelFiles, NamedEncoder, TransducerParts},
    fallback::Source,
    sidecar::Sidecar,
    target::Target,
};
use crate::{
    chunker::{SUBSAMPLING_FACTOR, full_width},
    error::{Error, Result},
    features::FrontEndConfig,
    text::Vocabulary,
};
use nemostt_compiler::{Contract, GraphError, StreamingConfig};

impl Model {
    /// Loads the model in directory `path`, or the one whose encoder or CTC graph is the file `path`.
    pub(crate) fn load(path: &Path, options: &Options) -> Result<Self> {
        let load = || {
            Self::build(
                ModelFiles::open(path, compiled_cache::min_model_size(options))?,
                options,
            )
        };
        #[cfg(any(test, feature = "fuzzing"))]
        let load = || FailingDevice::during(path, load);
        let model = load()?;
        Ok(model.with_fallback(Source::Path(path.into()), options))
    }

    /// Loads the built-in demo model.
    #[cfg(feature = "embedded-model")]
    pub(crate) fn embedded(options: &Options) -> Result<Self> {
        let model = Self::build(super::embedded::files()?, options)?;
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

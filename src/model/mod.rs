// SPDX-License-Identifier: MIT OR Apache-2.0

//! A loaded model: its graphs, its vocabulary and its numbers, checked once and shared by every stream.

#[cfg(feature = "embedded-model")]
mod embedded;
mod encoder;
mod files;
mod options;
mod runtime;
mod sniff;
mod transducer;

use std::path::Path;

use serde::Deserialize;

#[cfg(feature = "embedded-model")]
pub use embedded::EMBEDDED_LOOKAHEAD;
pub(crate) use encoder::{Encoder, EncoderState};
use files::{Files, NamedGraph, Source};
pub use options::{DecoderKind, Device, Options};
pub use runtime::{LogLevel, set_runtime_logger};
pub(crate) use transducer::{Transducer, TransducerState};

use crate::{
    error::{Error, Result},
    features::{FrontEndConfig, Preprocessor},
    graph::Streaming,
    text::Vocabulary,
    window::SUBSAMPLING,
};

/// A model, ready to run.
pub(crate) struct Model {
    pub(crate) config: ModelConfig,
    pub(crate) vocabulary: Vocabulary,
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
    pub streaming: Streaming,
    /// Lookahead in use, in encoder frames.
    pub lookahead: usize,
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
}

impl ModelConfig {
    /// Lookahead in use, in milliseconds.
    pub fn lookahead_ms(&self) -> u64 {
        self.lookahead as u64 * self.frame_samples() * 1000 / u64::from(self.front_end.sample_rate)
    }

    /// Samples from one encoder frame to the next: 1280 (80 ms) in every published model.
    pub fn frame_samples(&self) -> u64 {
        (self.front_end.hop * SUBSAMPLING) as u64
    }

    /// Samples that must have come before the first sample of a chunk is decided on, at worst: the chunk itself and the
    /// half window that its last mel frame reaches beyond it.
    pub fn latency_samples(&self) -> u64 {
        latency_samples(&self.front_end, self.lookahead)
    }
}

/// See [`ModelConfig::latency_samples`].
pub(crate) fn latency_samples(front_end: &FrontEndConfig, lookahead: usize) -> u64 {
    let chunk = (lookahead + 1) * SUBSAMPLING * front_end.hop;
    (chunk + front_end.window / 2) as u64
}

/// What `nemostt.json` beside a model may say.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Sidecar {
    preprocessor: Preprocessor,
    /// Lookaheads the model was trained for, in encoder frames.
    lookaheads: Option<Vec<usize>>,
}

impl Model {
    /// Loads the model in directory `path`, or the one whose encoder or CTC graph is the file `path`.
    pub(crate) fn load(path: &Path, options: &Options) -> Result<Self> {
        Self::build(Files::open(path)?, options)
    }

    /// Loads the model that is compiled in.
    #[cfg(feature = "embedded-model")]
    pub(crate) fn embedded(options: &Options) -> Result<Self> {
        Self::build(embedded::files()?, options)
    }

    fn build(files: Files, options: &Options) -> Result<Self> {
        let sidecar = Sidecar::read(files.sidecar.as_ref())?;
        let parts = (files.encoder, files.decoder_joint, files.ctc);
        let (decoder, body, decoder_joint) = pick_decoder(&files.origin, parts, options.decoder)?;
        let NamedGraph { name, graph } = body;
        let bad = |reason| Error::BadModel {
            path: name.clone(),
            reason,
        };

        let streaming = Streaming::read(&graph).map_err(bad)?;
        let mut preprocessor = sidecar.preprocessor;
        if let Some(kind) = graph.metadata("normalize_type") {
            preprocessor.normalize = kind.into();
        }
        let front_end = FrontEndConfig::new(&preprocessor, streaming.mels).map_err(bad)?;
        let lookahead = pick_lookahead(&streaming, &front_end, sidecar.lookaheads, options.lookahead)?;

        let transducer = match decoder_joint {
            Some(part) => Some(Transducer::load(part, streaming.width, options)?),
            None => None,
        };
        let labels = match &transducer {
            Some(transducer) => transducer.labels(),
            None => {
                ctc_labels(&graph).ok_or_else(|| bad("its output logprobs leaves the number of labels open".into()))?
            }
        };
        let vocabulary = Vocabulary::parse(&files.vocabulary.name, &files.vocabulary.bytes, labels)?;
        let encoder = Encoder::load(
            NamedGraph { name, graph },
            streaming,
            lookahead,
            transducer.is_none().then_some(labels),
            options,
        )?;

        let config = ModelConfig {
            front_end,
            streaming,
            lookahead,
            labels,
            decoder,
            device: encoder.device(),
            threads: encoder.threads(),
            max_symbols: options.max_symbols.max(1),
        };
        Ok(Self {
            config,
            vocabulary,
            encoder,
            transducer,
        })
    }
}

impl Sidecar {
    fn read(source: Option<&Source>) -> Result<Self> {
        let Some(source) = source else {
            return Ok(Self::default());
        };
        serde_json::from_slice(&source.bytes).map_err(|error| Error::BadModel {
            path: source.name.clone(),
            reason: error.to_string(),
        })
    }
}

/// The decoder in use, the graph that holds the encoder, and that of the prediction network and joint, if there is one.
fn pick_decoder(
    origin: &str,
    parts: (Option<NamedGraph>, Option<NamedGraph>, Option<NamedGraph>),
    asked: DecoderKind,
) -> Result<(DecoderKind, NamedGraph, Option<NamedGraph>)> {
    use DecoderKind::{Auto, Ctc, Rnnt};
    let (requested, needs) = match (asked, parts) {
        (Auto | Rnnt, (Some(encoder), Some(joint), _)) => return Ok((Rnnt, encoder, Some(joint))),
        (Auto | Ctc, (_, _, Some(ctc))) => return Ok((Ctc, ctc, None)),
        (Ctc, _) => ("ctc", "a graph with output logprobs (export with decoder_type ctc)"),
        (Auto | Rnnt, _) => (
            "rnnt",
            "an encoder and its decoder_joint graph (export with decoder_type rnnt)",
        ),
    };
    Err(Error::Decoder {
        requested,
        needs,
        path: origin.into(),
    })
}

fn ctc_labels(graph: &crate::graph::Graph) -> Option<usize> {
    let classes = graph.output("logprobs")?.dims.last().copied().flatten()?;
    classes.checked_sub(1)
}

/// The lookahead in encoder frames.
fn pick_lookahead(
    streaming: &Streaming,
    front_end: &FrontEndConfig,
    trained: Option<Vec<usize>>,
    asked: Option<u32>,
) -> Result<usize> {
    let frame_ms = (front_end.hop * SUBSAMPLING * 1000) as u32 / front_end.sample_rate;
    let mut allowed = streaming.lookaheads();
    if let Some(trained) = trained {
        allowed.retain(|lookahead| trained.contains(lookahead));
    }
    let Some(requested) = asked else {
        // The export's own, which is the largest, unless the model was not trained for it.
        return Ok(allowed.last().copied().unwrap_or(streaming.chunk - 1));
    };
    let found = allowed
        .iter()
        .find(|&&lookahead| lookahead as u32 * frame_ms == requested);
    found.copied().ok_or_else(|| Error::Lookahead {
        requested,
        allowed: allowed.iter().map(|&lookahead| lookahead as u32 * frame_ms).collect(),
    })
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The decoder of a stream: RNN-T or CTC, greedy or with a beam.

mod commit_policy;
mod sink;

use self::{commit_policy::commit_policy, sink::Sink};
use crate::{
    boosting::{Boosting, BoostingTree},
    confidence::{Aggregate, ConfidenceConfig},
    decode::{
        BeamConfig, Ctc, CtcBeam, CtcSnapshot, DecodingMethod, Emission, Fusion, PrefixScorer, Rnnt, RnntBeam,
        TokenSink, TransducerScorer,
    },
    error::Result,
    model::{ChunkFrames, HeadTensors, Model, PrefixState, Tensor, TransducerSnapshot, TransducerState},
    text::{Segmenter, Undecided, Vocabulary},
};

/// A decoder with its state between chunks.
pub(super) struct Decoder {
    kind: Kind,
    /// Phrases to prefer, and in greedy decoding how far the tokens so far are in them. Kept when the stream moves to the
    /// CPU: the tokens stay.
    boosting: Option<Boosting>,
    method: DecodingMethod,
    /// How the confidence of tokens is computed.
    confidence: ConfidenceConfig,
    /// Samples per encoder frame.
    frame_samples: u64,
    sample_rate: u64,
}

enum Kind {
    Rnnt {
        greedy: Rnnt,
        state: Box<TransducerState>,
        beam: Option<Box<RnntBeam<PrefixState>>>,
    },
    Ctc {
        greedy: Ctc,
        beam: Option<Box<CtcBeam>>,
    },
}

/// The state of a [`Decoder`] between chunks.
#[derive(Debug, Default)]
pub(super) struct DecoderSnapshot {
    /// Only used by transducer models.
    transducer: TransducerSnapshot,
    rnnt_beam: Option<Box<RnntBeam<PrefixState>>>,
    /// Only used by CTC models.
    ctc: CtcSnapshot,
    ctc_beam: Option<Box<CtcBeam>>,
    boosting: Option<Boosting>,
    method: DecodingMethod,
    confidence: ConfidenceConfig,
}

/// The encoder's output for a chunk.
pub(super) struct Chunk<'a> {
    pub(super) outputs: &'a Tensor<f32>,
    /// Number of its first frame.
    pub(super) first: u64,
    /// Number of its frames.
    pub(super) frames: usize,
}

impl Decoder {
    /// Greedy decoding at the start of a stream of `model`, whose encoder writes to `outputs`.
    pub(super) fn new(model: &Model, outputs: &Tensor<f32>) -> Result<Self> {
        let config = &model.config;
        let kind = match &model.transducer {
            Some(transducer) => Kind::Rnnt {
                greedy: Rnnt {
                    blank: config.vocabulary_size,
                    max_symbols: config.max_symbols,
                },
                state: Box::new(TransducerState::new(transducer, outputs, config.lookahead + 1)?),
                beam: None,
            },
            None => Kind::Ctc {
                greedy: Ctc::new(config.vocabulary_size),
                beam: None,
            },
        };
        Ok(Self {
            kind,
            boosting: None,
            method: DecodingMethod::Greedy,
            confidence: ConfidenceConfig::default(),
            frame_samples: config.frame_samples(),
            sample_rate: config.front_end.sample_rate.into(),
        })
    }

    /// The tensors of a transducer, which the encoder's run may read and write.
    pub(super) fn transducer(&mut self) -> Option<&mut TransducerState> {
        match &mut self.kind {
            Kind::Rnnt { state, .. } => Some(state),
            Kind::Ctc { .. } => None,
        }
    }

    /// Computes what the encoder's next run needs, and returns the tensors that it shares with the decoder.
    pub(super) fn prepare(&mut self, model: &Model) -> Result<Option<HeadTensors<'_>>> {
        match (&mut self.kind, &model.transducer) {
            (Kind::Rnnt { state, beam, .. }, Some(transducer)) => {
                match beam {
                    Some(beam) => state.prepare_prefix(transducer, beam.first())?,
                    None => state.prepare(transducer)?,
                }
                Ok(state.head_tensors().filter(|_| model.encoder.has_head()))
            }
            _ => Ok(None),
        }
    }

    /// Decodes a chunk.
    pub(super) fn decode(&mut self, model: &Model, chunk: &Chunk<'_>, segmenter: &mut Segmenter) -> Result<()> {
        let &Chunk { outputs, first, frames } = chunk;
        let vocabulary = &model.vocabulary;
        let pauses = *segmenter.endpoint_config();
        let ends_turn = |id| sink::ends_turn(vocabulary, id);
        let policy = commit_policy(&pauses, (self.frame_samples, self.sample_rate), &ends_turn);
        let mut sink = Sink::new(segmenter, vocabulary, self.beam());
        let utterance = sink.utterance_start(self.frame_samples);
        let (boosting, confidence) = (self.boosting.as_mut(), &self.confidence);
        match (&mut self.kind, &model.transducer) {
            (
                Kind::Rnnt {
                    state,
                    beam: Some(beam),
                    ..
                },
                Some(transducer),
            ) => {
                let chunk = ChunkFrames {
                    tensor: outputs,
                    first,
                    count: frames,
                };
                let mut scorer = PrefixScorer::new(transducer, state, chunk);
                beam.confidence = *confidence;
                beam.forget_before(utterance);
                beam.decode(&mut scorer, frames, first, &policy, &mut sink)?;
            }
            (Kind::Rnnt { greedy, state, .. }, Some(transducer)) => {
                let mut network = TransducerScorer {
                    model: transducer,
                    state,
                    frames: outputs,
                };
                greedy.decode(&mut network, frames, first, boosting, confidence, |token| {
                    sink.token(token)
                })?;
            }
            (Kind::Ctc { beam: Some(beam), .. }, _) => {
                beam.confidence = *confidence;
                beam.forget_before(utterance);
                beam.decode(outputs.data(), frames, first, &policy, &mut sink);
            }
            (Kind::Ctc { greedy, .. }, _) => {
                let emit = |emission| match emission {
                    Emission::Token(token) => sink.token(token),
                    Emission::Repeat { id, confidence } => sink.repeat(id, &Aggregate::of(confidence)),
                };
                greedy.decode(outputs.data(), frames, first, boosting, confidence, emit);
            }
            // `new` creates the decoder that the model has.
            (Kind::Rnnt { .. }, None) => {}
        }
        Ok(())
    }

    /// Decides on all tokens, because the stream ends.
    pub(super) fn finish(&mut self, vocabulary: &Vocabulary, segmenter: &mut Segmenter) {
        let mut sink = Sink::new(segmenter, vocabulary, self.beam());
        match &mut self.kind {
            Kind::Rnnt { beam: Some(beam), .. } => beam.finish(&mut sink),
            Kind::Ctc { beam: Some(beam), .. } => beam.finish(&mut sink),
            Kind::Rnnt { .. } | Kind::Ctc { .. } => {}
        }
    }

    /// Tokens of the best hypothesis that may still be replaced.
    pub(super) fn undecided(&self) -> Undecided<'_> {
        match &self.kind {
            Kind::Rnnt { beam: Some(beam), .. } => Undecided {
                tokens: beam.undecided(),
                first_frame: beam.first_undecided_frame(),
            },
            Kind::Ctc { beam: Some(beam), .. } => Undecided {
                tokens: beam.undecided(),
                first_frame: beam.first_undecided_frame(),
            },
            Kind::Rnnt { .. } | Kind::Ctc { .. } => Undecided::default(),
        }
    }

    fn beam(&self) -> Option<&BeamConfig> {
        match &self.method {
            DecodingMethod::Beam(config) => Some(config),
            DecodingMethod::Greedy => None,
        }
    }

    /// Sets the phrases to boost.
    pub(super) fn set_boosting_tree(&mut self, tree: Option<&BoostingTree>) {
        self.boosting = tree.cloned().map(Boosting::new);
        match &mut self.kind {
            Kind::Rnnt { beam: Some(beam), .. } => beam.set_tree(tree.cloned()),
            Kind::Ctc { beam: Some(beam), .. } => beam.set_tree(tree.cloned()),
            Kind::Rnnt { .. } | Kind::Ctc { .. } => {}
        }
    }

    /// Sets how the confidence of tokens is computed.
    pub(super) fn set_confidence(&mut self, confidence: ConfidenceConfig) {
        self.confidence = confidence;
    }

    /// Starts over with `method`.
    pub(super) fn set_method(&mut self, method: DecodingMethod, vocabulary_size: usize) {
        self.method = method;
        self.reset(vocabulary_size);
    }

    /// Resets to the start of a stream.
    pub(super) fn reset(&mut self, vocabulary_size: usize) {
        if let Some(boosting) = &mut self.boosting {
            boosting.reset();
        }
        let new = self.beam().map(|config| {
            let model = config.language_model.clone();
            let fusion = Fusion {
                tree: self.boosting.as_ref().map(|boosting| boosting.tree().clone()),
                language_model: model.map(|model| (model, config.language_model_weight)),
            };
            ((config.size, config.n_best), vocabulary_size, fusion)
        });
        match &mut self.kind {
            Kind::Rnnt { state, beam, .. } => {
                state.reset();
                let new = new.map(|(size, blank, fusion)| RnntBeam::new(size, blank, fusion, PrefixState::default()));
                *beam = new.map(Box::new);
            }
            Kind::Ctc { greedy, beam } => {
                greedy.reset();
                *beam = new.map(|(size, blank, fusion)| Box::new(CtcBeam::new(size, blank, fusion)));
            }
        }
    }

    /// Takes over the state of `before`, a decoder of the same model on another device.
    pub(super) fn take_over(&mut self, before: &mut Self) {
        let mut snapshot = DecoderSnapshot::default();
        before.save(&mut snapshot);
        self.restore(&snapshot);
    }

    pub(super) fn save(&self, snapshot: &mut DecoderSnapshot) {
        match &self.kind {
            Kind::Rnnt { state, beam, .. } => {
                state.save(&mut snapshot.transducer);
                snapshot.rnnt_beam.clone_from(beam);
            }
            Kind::Ctc { greedy, beam } => {
                greedy.save(&mut snapshot.ctc);
                snapshot.ctc_beam.clone_from(beam);
            }
        }
        snapshot.boosting.clone_from(&self.boosting);
        snapshot.method.clone_from(&self.method);
        snapshot.confidence = self.confidence;
    }

    pub(super) fn restore(&mut self, snapshot: &DecoderSnapshot) {
        match &mut self.kind {
            Kind::Rnnt { state, beam, .. } => {
                state.restore(&snapshot.transducer);
                beam.clone_from(&snapshot.rnnt_beam);
            }
            Kind::Ctc { greedy, beam } => {
                greedy.restore(&snapshot.ctc);
                beam.clone_from(&snapshot.ctc_beam);
            }
        }
        self.boosting.clone_from(&snapshot.boosting);
        self.method.clone_from(&snapshot.method);
        self.confidence = snapshot.confidence;
    }
}

#[cfg(test)]
mod tests;

// SPDX-License-Identifier: MIT OR Apache-2.0

//! From mel frames to words: windows, encoder, decoder, segmenter.

use std::sync::Arc;

use super::{Observer, Snapshot};
use crate::{
    chunker::Chunker,
    decode::{Ctc, Rnnt, TransducerScorer},
    error::{Error, Result},
    model::{EncoderState, Model, TransducerState},
    text::{EndReason, Segmenter},
};

/// The stages that turn the mel frames of one stream into words, with their state between chunks.
pub(super) struct StreamPipeline {
    pub(super) model: Arc<Model>,
    chunker: Chunker,
    pub(super) encoder: EncoderState,
    decoder: Decoder,
    pub(super) segmenter: Segmenter,
    /// Number of decoded encoder frames.
    frames: u64,
    /// Why the last utterance ends when the stream is finished.
    pub(super) ending: EndReason,
}

enum Decoder {
    Rnnt(Rnnt, Box<TransducerState>),
    Ctc(Ctc),
}

impl StreamPipeline {
    pub(super) fn new(model: Arc<Model>) -> Result<Self> {
        let config = &model.config;
        let mut encoder = EncoderState::new(&model.encoder)?;
        if let Some(languages) = &config.languages {
            encoder.set_prompt(languages.default_prompt());
        }
        let decoder = match &model.transducer {
            Some(transducer) => {
                let mut state = TransducerState::new(transducer, encoder.outputs(), config.lookahead + 1)?;
                if model.encoder.has_head() {
                    encoder.bind(|run| state.bind_head(run))?;
                }
                let rnnt = Rnnt {
                    blank: config.vocabulary_size,
                    max_symbols: config.max_symbols,
                };
                Decoder::Rnnt(rnnt, Box::new(state))
            }
            None => Decoder::Ctc(Ctc::new(config.vocabulary_size)),
        };
        Ok(Self {
            chunker: Chunker::new(config.front_end.mels, config.lookahead),
            encoder,
            decoder,
            segmenter: Segmenter::new(config.frame_samples()),
            frames: 0,
            ending: EndReason::EndOfStream,
            model,
        })
    }

    /// Adds a mel frame, and decodes the window if it is full.
    pub(super) fn push_frame(&mut self, frame: &[f32], observe: &mut Observer<'_>) -> Result<()> {
        self.chunker.push(frame);
        match self.chunker.is_full() {
            true => self.step(observe),
            false => Ok(()),
        }
    }

    /// Decodes the last window and emits the last word.
    pub(super) fn end(&mut self, observe: &mut Observer<'_>) -> Result<()> {
        if self.chunker.has_new() {
            self.step(observe)?;
        }
        self.segmenter.finish(self.ending);
        Ok(())
    }

    /// Encodes and decodes the current window.
    fn step(&mut self, observe: &mut Observer<'_>) -> Result<()> {
        if let (Decoder::Rnnt(_, state), Some(transducer)) = (&mut self.decoder, &self.model.transducer) {
            state.prepare(transducer)?;
        }
        let window = self.chunker.window();
        let head = match &mut self.decoder {
            Decoder::Rnnt(_, state) if self.model.encoder.has_head() => state.head_tensors(),
            _ => None,
        };
        let frames = self.encoder.step(&self.model.encoder, &window, head)?;
        observe(&window, self.encoder.outputs().data());
        self.chunker.advance();
        self.decode(frames)
    }

    fn decode(&mut self, frames: usize) -> Result<()> {
        let Self { model, segmenter, .. } = self;
        let emit = |token| segmenter.token(&model.vocabulary, token);
        match (&mut self.decoder, &model.transducer) {
            (Decoder::Rnnt(rnnt, state), Some(transducer)) => {
                let mut network = TransducerScorer {
                    model: transducer,
                    state,
                    frames: self.encoder.outputs(),
                };
                rnnt.decode(&mut network, frames, self.frames, emit)?;
            }
            (Decoder::Ctc(ctc), _) => {
                ctc.decode(self.encoder.outputs().data(), frames, self.frames, emit);
            }
            // `new` creates the decoder that the model has.
            (Decoder::Rnnt(..), None) => {}
        }
        self.frames += frames as u64;
        self.segmenter.decoded(self.frames);
        Ok(())
    }

    pub(super) fn stable_until(&self) -> u64 {
        // A frame is decoded when the audio up to its middle has been processed, so that only the frames before it are
        // surely complete.
        let complete = self.frames.saturating_sub(1) * self.model.config.frame_samples();
        self.segmenter.pending_start().unwrap_or(complete)
    }

    pub(super) fn reset(&mut self) {
        self.chunker.reset();
        self.encoder.reset();
        match &mut self.decoder {
            Decoder::Rnnt(_, state) => state.reset(),
            Decoder::Ctc(ctc) => ctc.reset(),
        }
        self.segmenter.reset();
        self.frames = 0;
    }

    pub(super) fn save(&self, snapshot: &mut Snapshot) {
        snapshot.model = Arc::downgrade(&self.model);
        self.chunker.save(&mut snapshot.chunker);
        self.encoder.save(&mut snapshot.encoder);
        match &self.decoder {
            Decoder::Rnnt(_, state) => state.save(&mut snapshot.transducer),
            Decoder::Ctc(ctc) => ctc.save(&mut snapshot.ctc),
        }
        snapshot.segmenter = Some(self.segmenter.clone());
        snapshot.frames = self.frames;
    }

    pub(super) fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        // Tensors of all streams of a model have the same sizes.
        let is_same_model = std::ptr::eq(snapshot.model.as_ptr(), Arc::as_ptr(&self.model));
        let (true, Some(segmenter)) = (is_same_model, &snapshot.segmenter) else {
            return Err(Error::OtherSnapshot);
        };
        self.chunker.restore(&snapshot.chunker);
        self.encoder.restore(&snapshot.encoder);
        match &mut self.decoder {
            Decoder::Rnnt(_, state) => state.restore(&snapshot.transducer),
            Decoder::Ctc(ctc) => ctc.restore(&snapshot.ctc),
        }
        self.segmenter.clone_from(segmenter);
        self.frames = snapshot.frames;
        Ok(())
    }
}

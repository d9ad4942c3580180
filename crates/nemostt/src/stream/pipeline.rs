// SPDX-License-Identifier: MIT OR Apache-2.0

//! From mel frames to words: windows, encoder, decoder, segmenter.

use std::sync::Arc;

use super::{Observer, Snapshot, history::History};
use crate::{
    boosting::Boosting,
    chunker::Chunker,
    decode::{Ctc, Progress, Rnnt, TransducerScorer},
    error::{Error, Result},
    model::{CpuFallback, EncoderState, Fallback, Model, TransducerSnapshot, TransducerState, is_device_failure},
    text::{EndReason, Segmenter},
};

/// The stages that turn the mel frames of one stream into words, with their state between chunks.
pub(super) struct StreamPipeline {
    /// The model that it runs on now.
    pub(super) model: Arc<Model>,
    /// The one that it was created for.
    original: Arc<Model>,
    chunker: Chunker,
    pub(super) encoder: EncoderState,
    decoder: Decoder,
    /// Phrases to prefer, and how far the tokens so far are in them. Kept when the stream moves to the CPU: the tokens stay.
    pub(super) boosting: Option<Boosting>,
    pub(super) segmenter: Segmenter,
    /// Number of decoded encoder frames.
    frames: u64,
    /// Why the last utterance ends when the stream is finished.
    pub(super) ending: EndReason,
    /// What restores the encoder's context on the CPU.
    history: History,
    /// Why it moved to the CPU, until the caller asks for it.
    pub(super) notice: Option<Arc<str>>,
}

enum Decoder {
    Rnnt(Rnnt, Box<TransducerState>),
    Ctc(Ctc),
}

impl StreamPipeline {
    pub(super) fn new(original: Arc<Model>) -> Result<Self> {
        let fallback = original.fallback.as_ref().and_then(CpuFallback::loaded);
        let model = fallback.map_or_else(|| original.clone(), |fallback| fallback.model);
        let config = &model.config;
        let (mut encoder, decoder) = stages(&model)?;
        if let Some(languages) = &config.languages {
            encoder.set_prompt(languages.default_prompt());
        }
        let context = config.streaming.left_context.div_ceil(config.lookahead + 1);
        // The first window that it encodes again lacks context of its own.
        let history = model.fallback.as_ref().map_or(0, |_| 2 * context);
        Ok(Self {
            chunker: Chunker::new(config.front_end.mels, config.lookahead),
            encoder,
            decoder,
            boosting: None,
            segmenter: Segmenter::new(config.frame_samples()),
            frames: 0,
            ending: EndReason::EndOfStream,
            notice: None,
            history: History::new(history),
            original,
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

    /// Encodes and decodes the current window. If the device fails that was chosen automatically, does so on the CPU.
    fn step(&mut self, observe: &mut Observer<'_>) -> Result<()> {
        if let Some(fallback) = self.model.fallback.as_ref().and_then(CpuFallback::loaded) {
            // Another stream found out.
            self.move_to(fallback)?;
        }
        let mut progress = Progress::default();
        let frames = match self.encode_and_decode(&mut progress) {
            Err(error) if is_device_failure(&error) => {
                let Some(fallback) = &self.model.fallback else {
                    return Err(error);
                };
                let fallback = fallback.load(&error)?;
                self.move_to(fallback)?;
                self.encode_and_decode(&mut progress)?
            }
            result => result?,
        };
        observe(&self.chunker.window(), self.encoder.outputs().data());
        self.history.push(&self.chunker.window());
        self.chunker.advance();
        self.frames += frames as u64;
        self.segmenter.decoded(self.frames);
        Ok(())
    }

    /// Encodes the current window, decodes it from `progress` on, and returns its encoder frames.
    fn encode_and_decode(&mut self, progress: &mut Progress) -> Result<usize> {
        let Self {
            model,
            boosting,
            segmenter,
            ..
        } = self;
        let boosting = boosting.as_mut();
        if let (Decoder::Rnnt(_, state), Some(transducer)) = (&mut self.decoder, &model.transducer) {
            state.prepare(transducer)?;
        }
        let head = match &mut self.decoder {
            Decoder::Rnnt(_, state) if model.encoder.has_head() => state.head_tensors(),
            _ => None,
        };
        let frames = self.encoder.step(&model.encoder, &self.chunker.window(), head)?;
        let emit = |token| segmenter.token(&model.vocabulary, token);
        match (&mut self.decoder, &model.transducer) {
            (Decoder::Rnnt(rnnt, state), Some(transducer)) => {
                let mut network = TransducerScorer {
                    model: transducer,
                    state,
                    frames: self.encoder.outputs(),
                };
                rnnt.decode(&mut network, frames, self.frames, progress, boosting, emit)?;
            }
            (Decoder::Ctc(ctc), _) => {
                ctc.decode(self.encoder.outputs().data(), frames, self.frames, boosting, emit);
            }
            // `new` creates the decoder that the model has.
            (Decoder::Rnnt(..), None) => {}
        }
        Ok(frames)
    }

    /// Goes on with the same model on the CPU. Tokens and words are kept, with the decoder's state; the encoder's caches, which
    /// were on the device and in its layout, are computed again.
    fn move_to(&mut self, fallback: Fallback) -> Result<()> {
        let (mut encoder, mut decoder) = stages(&fallback.model)?;
        encoder.set_prompt(self.encoder.prompt());
        encoder.set_class(self.encoder.class());
        match (&self.decoder, &mut decoder) {
            (Decoder::Rnnt(_, before), Decoder::Rnnt(_, after)) => {
                let mut snapshot = TransducerSnapshot::default();
                before.save(&mut snapshot);
                after.restore(&snapshot);
            }
            (Decoder::Ctc(before), Decoder::Ctc(after)) => after.clone_from(before),
            // It is the same model.
            _ => {}
        }
        (self.encoder, self.decoder) = (encoder, decoder);
        self.model = fallback.model;
        self.encode_history()?;
        self.history = History::default();
        self.notice = Some(fallback.notice);
        Ok(())
    }

    /// Encodes the last windows, for the encoder's caches: their frames have been decoded.
    fn encode_history(&mut self) -> Result<()> {
        let Self { model, history, .. } = self;
        for window in history.windows() {
            if let (Decoder::Rnnt(_, state), Some(transducer)) = (&mut self.decoder, &model.transducer) {
                state.prepare(transducer)?;
            }
            let head = match &mut self.decoder {
                Decoder::Rnnt(_, state) if model.encoder.has_head() => state.head_tensors(),
                _ => None,
            };
            self.encoder.step(&model.encoder, &window, head)?;
        }
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
        if let Some(boosting) = &mut self.boosting {
            boosting.reset();
        }
        self.segmenter.reset();
        self.history.clear();
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
        snapshot.boosting.clone_from(&self.boosting);
        snapshot.history.clone_from(&self.history);
        snapshot.segmenter = Some(self.segmenter.clone());
        snapshot.frames = self.frames;
    }

    pub(super) fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        let Some(segmenter) = &snapshot.segmenter else {
            return Err(Error::OtherSnapshot);
        };
        let is_of = |model: &Arc<Model>| std::ptr::eq(snapshot.model.as_ptr(), Arc::as_ptr(model));
        if let Some(fallback) = self.model.fallback.as_ref().and_then(CpuFallback::loaded)
            && is_of(&fallback.model)
        {
            self.move_to(fallback)?;
        }
        // Tensors of all streams of a model have the same sizes.
        let is_of_device = match is_of(&self.model) {
            true => false,
            // It was saved before the device failed.
            false if is_of(&self.original) => true,
            false => return Err(Error::OtherSnapshot),
        };
        self.chunker.restore(&snapshot.chunker);
        match &mut self.decoder {
            Decoder::Rnnt(_, state) => state.restore(&snapshot.transducer),
            Decoder::Ctc(ctc) => ctc.restore(&snapshot.ctc),
        }
        self.boosting.clone_from(&snapshot.boosting);
        self.history.clone_from(&snapshot.history);
        match is_of_device {
            false => self.encoder.restore(&snapshot.encoder),
            true => {
                self.encoder.restore_language(&snapshot.encoder);
                self.encode_history()?;
                self.history = History::default();
            }
        }
        self.segmenter.clone_from(segmenter);
        self.frames = snapshot.frames;
        Ok(())
    }
}

/// Encoder and decoder at the start of a stream of `model`.
fn stages(model: &Model) -> Result<(EncoderState, Decoder)> {
    let config = &model.config;
    let mut encoder = EncoderState::new(&model.encoder)?;
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
    Ok((encoder, decoder))
}

#[cfg(test)]
mod tests;

// SPDX-License-Identifier: MIT OR Apache-2.0

//! From mel frames to words: windows, encoder, decoder, segmenter.

use std::sync::Arc;

use super::{Observer, Snapshot, history::History};
use crate::{
    boosting::Boosting,
    chunker::{Chunker, Window},
    confidence::ConfidenceConfig,
    decode::{Ctc, Emission, Rnnt, TransducerScorer},
    error::{Error, Result},
    model::{CpuFallback, EncoderState, Fallback, Model, TransducerSnapshot, TransducerState, is_device_failure},
    text::{EndReason, Segmenter},
};

/// Language of models of one language, unless they are said to have another: most are English.
const MONOLINGUAL: &str = "en-US";

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
    pub(super) confidence: ConfidenceConfig,
    pub(super) segmenter: Segmenter,
    /// Whether the model writes punctuation.
    pub(super) punctuates: bool,
    /// Number of decoded encoder frames.
    frames: u64,
    /// Windows that were ever encoded and decoded: a reset takes nothing back.
    pub(super) steps: u64,
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
        let mut model = fallback.map_or_else(|| original.clone(), |fallback| fallback.model);
        let mut notice = None;
        let (mut encoder, decoder) = match (stages(&model), &model.fallback) {
            (Err(error), Some(fallback)) if is_device_failure(&error) => {
                let fallback = fallback.load(&error)?;
                notice = Some(fallback.notice);
                model = fallback.model;
                stages(&model)?
            }
            (stages, _) => stages?,
        };
        let config = &model.config;
        if let Some(languages) = &config.languages {
            encoder.set_prompt(languages.default_prompt());
        }
        let context = config.streaming.left_context.div_ceil(config.lookahead + 1);
        // The first window that it encodes again lacks context of its own.
        let history = model.fallback.as_ref().map_or(0, |_| 2 * context);
        let mut segmenter = Segmenter::new(config.frame_samples());
        if config.languages.is_none() {
            segmenter.set_language(MONOLINGUAL);
        }
        Ok(Self {
            chunker: Chunker::new(config.front_end.mels, config.lookahead),
            encoder,
            decoder,
            boosting: None,
            confidence: ConfidenceConfig::default(),
            segmenter,
            punctuates: model.vocabulary.punctuates(),
            frames: 0,
            steps: 0,
            ending: EndReason::EndOfStream,
            notice,
            history: History::new(history),
            original,
            model,
        })
    }

    /// Sets the language of the speech for what is done to words.
    pub(super) fn set_text_language(&mut self, language: &str) {
        let is_known = self.model.config.languages.is_some() || language != "auto";
        self.segmenter
            .set_language(if is_known { language } else { MONOLINGUAL });
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
        let frames = match (self.encode(), &self.model.fallback) {
            (Err(error), Some(fallback)) if is_device_failure(&error) => {
                let fallback = fallback.load(&error)?;
                self.move_to(fallback)?;
                self.encode()?
            }
            (result, _) => result?,
        };
        let decoded = self.decode(frames);
        self.count_error(&decoded);
        decoded?;
        observe(&self.chunker.window(), self.encoder.outputs().data());
        self.history.push(&self.chunker.window(), self.encoder.prompt());
        self.chunker.advance();
        self.frames += frames as u64;
        self.steps += 1;
        self.segmenter.decoded(self.frames);
        Ok(())
    }

    /// Encodes the current window, and returns the number of its encoder frames.
    fn encode(&mut self) -> Result<usize> {
        let encoded = encode(
            &self.model,
            (&mut self.encoder, &mut self.decoder),
            &self.chunker.window(),
        );
        self.count_error(&encoded);
        encoded
    }

    fn count_error<T>(&self, result: &Result<T>) {
        if result.is_err() {
            self.model.counters.count_error();
        }
    }

    /// Decodes the first `frames` frames of the encoder's output.
    fn decode(&mut self, frames: usize) -> Result<()> {
        let Self {
            model,
            boosting,
            confidence,
            segmenter,
            ..
        } = self;
        let boosting = boosting.as_mut();
        match (&mut self.decoder, &model.transducer) {
            (Decoder::Rnnt(rnnt, state), Some(transducer)) => {
                let mut network = TransducerScorer {
                    model: transducer,
                    state,
                    frames: self.encoder.outputs(),
                };
                let emit = |token| segmenter.token(&model.vocabulary, token);
                rnnt.decode(&mut network, frames, self.frames, boosting, confidence, emit)?;
            }
            (Decoder::Ctc(ctc), _) => {
                let emit = |emission| match emission {
                    Emission::Token(token) => segmenter.token(&model.vocabulary, token),
                    Emission::Repeat(confidence) => segmenter.repeat(confidence),
                };
                let log_probs = self.encoder.outputs().data();
                ctc.decode(log_probs, frames, self.frames, boosting, confidence, emit);
            }
            // `new` creates the decoder that the model has.
            (Decoder::Rnnt(..), None) => {}
        }
        Ok(())
    }

    /// Goes on with the same model on the CPU. Tokens and words are kept, with the decoder's state; the encoder's caches, which
    /// were on the device and in its layout, are computed again.
    ///
    /// # Errors
    /// Those of the encoder on the CPU. Nothing is changed then.
    fn move_to(&mut self, fallback: Fallback) -> Result<()> {
        let (mut encoder, mut decoder) = stages(&fallback.model)?;
        encoder.set_class(self.encoder.class());
        encode_history(&fallback.model, (&mut encoder, &mut decoder), &self.history)?;
        encoder.set_prompt(self.encoder.prompt());
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
        self.history = History::default();
        self.notice = Some(fallback.notice);
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
        match is_of_device {
            false => {
                self.encoder.restore(&snapshot.encoder);
                self.history.clone_from(&snapshot.history);
            }
            true => {
                let (mut encoder, mut decoder) = stages(&self.model)?;
                encoder.set_class(self.encoder.class());
                encode_history(&self.model, (&mut encoder, &mut decoder), &snapshot.history)?;
                encoder.restore_language(&snapshot.encoder);
                (self.encoder, self.decoder) = (encoder, decoder);
                self.history = History::default();
            }
        }
        self.chunker.restore(&snapshot.chunker);
        match &mut self.decoder {
            Decoder::Rnnt(_, state) => state.restore(&snapshot.transducer),
            Decoder::Ctc(ctc) => ctc.restore(&snapshot.ctc),
        }
        self.boosting.clone_from(&snapshot.boosting);
        self.segmenter.clone_from(segmenter);
        self.confidence = self.segmenter.confidence();
        self.frames = snapshot.frames;
        Ok(())
    }
}

/// Encodes `window`, and returns the number of its encoder frames.
fn encode(model: &Model, (encoder, decoder): (&mut EncoderState, &mut Decoder), window: &Window<'_>) -> Result<usize> {
    let head = match (decoder, &model.transducer) {
        (Decoder::Rnnt(_, state), Some(transducer)) => {
            state.prepare(transducer)?;
            state.head_tensors().filter(|_| model.encoder.has_head())
        }
        _ => None,
    };
    encoder.step(&model.encoder, window, head)
}

/// Encodes the windows of `history`, for the encoder's caches: their frames have been decoded.
fn encode_history(
    model: &Model,
    (encoder, decoder): (&mut EncoderState, &mut Decoder),
    history: &History,
) -> Result<()> {
    for (window, prompt) in history.windows() {
        encoder.set_prompt(prompt);
        encode(model, (encoder, decoder), &window)?;
    }
    Ok(())
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

// SPDX-License-Identifier: MIT OR Apache-2.0

//! From mel frames to words: windows, encoder, decoder, segmenter.

#[cfg(feature = "triton")]
mod server;

use std::sync::Arc;

#[cfg(feature = "triton")]
pub(super) use self::server::ServerLink;
#[cfg(feature = "triton")]
pub use self::server::{RemoteChange, RemoteState};
use super::{
    Observer, Snapshot,
    decoder::{Chunk, Decoder},
    history::History,
};
use crate::{
    chunker::{Chunker, Window},
    error::{Error, Result},
    model::{CpuFallback, EncoderState, Fallback, Model, is_device_failure},
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
    pub(super) decoder: Decoder,
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
    /// What waits for a server.
    waiting: Waiting,
    /// How the stream gets along with its server, if it has one.
    #[cfg(feature = "triton")]
    pub(super) link: ServerLink,
}

/// What a stream does once the server is back that the current window waits for.
#[derive(Debug, Clone, Default)]
pub(super) struct Waiting {
    is_waiting: bool,
    /// Mel frames after the window.
    frames: Vec<f32>,
    /// Whether the stream then ends.
    ends: bool,
}

impl StreamPipeline {
    pub(super) fn new(original: Arc<Model>) -> Result<Self> {
        let fallback = original.fallback.as_ref().filter(|_| !original.encoder.is_remote());
        let fallback = fallback.and_then(CpuFallback::loaded);
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
        let is_kept = model.fallback.is_some() || model.encoder.is_remote();
        let history = if is_kept { 2 * context } else { 0 };
        let mut segmenter = Segmenter::new(config.frame_samples());
        if config.languages.is_none() {
            segmenter.set_language(MONOLINGUAL);
        }
        Ok(Self {
            chunker: Chunker::new(config.front_end.mels, config.lookahead),
            encoder,
            decoder,
            segmenter,
            punctuates: model.vocabulary.punctuates(),
            frames: 0,
            steps: 0,
            ending: EndReason::EndOfStream,
            notice,
            waiting: Waiting::default(),
            #[cfg(feature = "triton")]
            link: ServerLink::new(&original),
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

    /// Adds a mel frame, and decodes the window if it is full. While a window waits for a server, frames are collected.
    pub(super) fn push_frame(&mut self, frame: &[f32], observe: &mut Observer<'_>) -> Result<()> {
        if self.waiting.is_waiting {
            self.waiting.frames.extend_from_slice(frame);
            return Ok(());
        }
        self.chunker.push(frame);
        match self.chunker.is_full() {
            true => self.step(observe),
            false => Ok(()),
        }
    }

    /// Decodes the last window and emits the last word.
    pub(super) fn end(&mut self, observe: &mut Observer<'_>) -> Result<()> {
        if self.chunker.has_new() && !self.waiting.is_waiting {
            self.step(observe)?;
        }
        self.waiting.ends = self.waiting.is_waiting;
        if self.waiting.ends {
            return Ok(());
        }
        self.decoder.finish(&self.model.vocabulary, &mut self.segmenter);
        let ending = std::mem::replace(&mut self.ending, EndReason::EndOfStream);
        self.segmenter.finish(ending);
        self.encoder.finish();
        Ok(())
    }

    /// Whether a window waits for a server.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_waiting
    }

    /// Tries again what waits for a server, and goes on with what came after it.
    pub(super) fn retry(&mut self, observe: &mut Observer<'_>) -> Result<()> {
        if !self.waiting.is_waiting {
            return Ok(());
        }
        self.step(observe)?;
        if self.waiting.is_waiting {
            return Ok(());
        }
        let Waiting { frames, ends, .. } = std::mem::take(&mut self.waiting);
        for frame in frames.chunks_exact(self.model.config.front_end.mels) {
            self.push_frame(frame, observe)?;
        }
        match ends {
            true => self.end(observe),
            false => Ok(()),
        }
    }

    /// Encodes and decodes the current window, unless it waits for a server.
    fn step(&mut self, observe: &mut Observer<'_>) -> Result<()> {
        #[cfg(feature = "triton")]
        let frames = match self.original.encoder.is_remote() {
            true => self.encode_on_server()?,
            false => Some(self.encode_on_device()?),
        };
        #[cfg(not(feature = "triton"))]
        let frames = Some(self.encode_on_device()?);
        self.waiting.is_waiting = frames.is_none();
        let Some(frames) = frames else { return Ok(()) };
        observe(&self.chunker.window(), self.encoder.outputs().data());
        let decoded = self.decode(frames);
        self.count_error(&decoded);
        decoded?;
        self.history.push(&self.chunker.window(), self.encoder.prompt());
        self.chunker.advance();
        self.frames += frames as u64;
        self.steps += 1;
        let undecided = self.decoder.undecided();
        self.segmenter.decoded(&self.model.vocabulary, self.frames, undecided);
        Ok(())
    }

    /// Encodes the current window. If the device fails that was chosen automatically, does so on the CPU.
    fn encode_on_device(&mut self) -> Result<usize> {
        if let Some(fallback) = self.model.fallback.as_ref().and_then(CpuFallback::loaded) {
            // Another stream found out.
            self.fall_back(fallback)?;
        }
        match (self.encode(), &self.model.fallback) {
            (Err(error), Some(fallback)) if is_device_failure(&error) => {
                let fallback = fallback.load(&error)?;
                self.fall_back(fallback)?;
                self.encode()
            }
            (result, _) => result,
        }
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
        let chunk = Chunk {
            outputs: self.encoder.outputs(),
            first: self.frames,
            frames,
        };
        self.decoder.decode(&self.model, &chunk, &mut self.segmenter)
    }

    /// Goes on on the CPU, for good.
    ///
    /// # Errors
    /// As [`move_to`](Self::move_to).
    fn fall_back(&mut self, fallback: Fallback) -> Result<()> {
        self.move_to(fallback.model)?;
        self.history = History::default();
        self.notice = Some(fallback.notice);
        Ok(())
    }

    /// Goes on with the same model elsewhere. Tokens and words are kept, with the decoder's state; the encoder's caches, which
    /// were there and in their own layout, are computed again.
    ///
    /// # Errors
    /// Those of the encoder there. Nothing is changed then.
    fn move_to(&mut self, model: Arc<Model>) -> Result<()> {
        let (mut encoder, mut decoder) = self.stages_of(&model)?;
        encode_history(&model, (&mut encoder, &mut decoder), &self.history)?;
        encoder.set_prompt(self.encoder.prompt());
        decoder.take_over(&mut self.decoder);
        (self.encoder, self.decoder) = (encoder, decoder);
        self.model = model;
        Ok(())
    }

    /// Encoder and decoder of `model` for this stream, at its start.
    fn stages_of(&self, model: &Model) -> Result<(EncoderState, Decoder)> {
        let (mut encoder, decoder) = stages(model)?;
        encoder.set_class(self.encoder.class());
        #[cfg(feature = "triton")]
        encoder.set_interrupt(&self.link.interrupt);
        Ok((encoder, decoder))
    }

    pub(super) fn stable_until(&self) -> u64 {
        // A frame is decoded when the audio up to its middle has been processed, so that only the frames before it are
        // surely complete.
        let complete = self.frames.saturating_sub(1) * self.model.config.frame_samples();
        let decided = self.segmenter.pending_start().unwrap_or(complete);
        let undecided = self.decoder.undecided().first_frame;
        undecided.map_or(decided, |first| decided.min(first * self.model.config.frame_samples()))
    }

    pub(super) fn reset(&mut self) {
        self.chunker.reset();
        self.encoder.reset();
        self.decoder.reset(self.model.config.vocabulary_size);
        self.segmenter.reset();
        self.history.clear();
        self.waiting = Waiting::default();
        self.ending = EndReason::EndOfStream;
        self.frames = 0;
    }

    pub(super) fn save(&self, snapshot: &mut Snapshot) {
        snapshot.model = Arc::downgrade(&self.model);
        self.chunker.save(&mut snapshot.chunker);
        self.encoder.save(&mut snapshot.encoder);
        self.decoder.save(&mut snapshot.decoder);
        snapshot.history.clone_from(&self.history);
        snapshot.waiting.clone_from(&self.waiting);
        snapshot.segmenter = Some(self.segmenter.clone());
        snapshot.frames = self.frames;
    }

    pub(super) fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        let Some(segmenter) = &snapshot.segmenter else {
            return Err(Error::OtherSnapshot);
        };
        let is_remote = self.original.encoder.is_remote();
        let is_of = |model: &Arc<Model>| std::ptr::eq(snapshot.model.as_ptr(), Arc::as_ptr(model));
        if let Some(fallback) = self.model.fallback.as_ref().and_then(CpuFallback::loaded)
            && is_of(&fallback.model)
            && !is_remote
        {
            self.fall_back(fallback)?;
        }
        // Tensors of all streams of a model have the same sizes.
        let is_of_device = match is_of(&self.model) {
            true => false,
            // It was saved before the device failed.
            false if is_of(&self.original) => true,
            // Or on the CPU, before the server was back.
            false if is_remote && self.is_of_fallback(snapshot) => true,
            false => return Err(Error::OtherSnapshot),
        };
        match is_of_device {
            false => {
                self.encoder.restore(&snapshot.encoder);
                self.history.clone_from(&snapshot.history);
            }
            // The next window finds that the server has no context.
            true if self.model.encoder.is_remote() => {
                self.encoder.reset();
                self.encoder.restore_language(&snapshot.encoder);
                self.history.clone_from(&snapshot.history);
            }
            true => {
                let (mut encoder, mut decoder) = self.stages_of(&self.model)?;
                encode_history(&self.model, (&mut encoder, &mut decoder), &snapshot.history)?;
                encoder.restore_language(&snapshot.encoder);
                (self.encoder, self.decoder) = (encoder, decoder);
                match is_remote {
                    true => self.history.clone_from(&snapshot.history),
                    false => self.history = History::default(),
                }
            }
        }
        self.waiting.clone_from(&snapshot.waiting);
        self.chunker.restore(&snapshot.chunker);
        self.decoder.restore(&snapshot.decoder);
        self.segmenter.clone_from(segmenter);
        self.frames = snapshot.frames;
        Ok(())
    }

    /// Whether `snapshot` is of a stream of this model that had gone on on the CPU.
    fn is_of_fallback(&self, snapshot: &Snapshot) -> bool {
        let fallback = self.original.fallback.as_ref().and_then(CpuFallback::loaded);
        fallback.is_some_and(|fallback| std::ptr::eq(snapshot.model.as_ptr(), Arc::as_ptr(&fallback.model)))
    }
}

/// Encodes `window`, and returns the number of its encoder frames.
fn encode(model: &Model, (encoder, decoder): (&mut EncoderState, &mut Decoder), window: &Window<'_>) -> Result<usize> {
    let head = decoder.prepare(model)?;
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
    let mut encoder = EncoderState::new(&model.encoder)?;
    let mut decoder = Decoder::new(model, encoder.outputs())?;
    if let Some(state) = decoder.transducer().filter(|_| model.encoder.has_head()) {
        encoder.bind(|run| state.bind_head(run))?;
    }
    Ok((encoder, decoder))
}

#[cfg(test)]
mod tests;

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Transcribes one stream of audio.

mod decoder;
mod history;
mod pipeline;

use std::sync::{Arc, Weak};

#[cfg(feature = "triton")]
pub use self::pipeline::{RemoteChange, RemoteState};
use self::{
    decoder::DecoderSnapshot,
    history::History,
    pipeline::{StreamPipeline, Waiting},
};
use crate::{
    boosting::{BoostingTree, Hotwords},
    chunker::{ChunkerSnapshot, Window},
    confidence::ConfidenceConfig,
    decode::DecodingMethod,
    device::Device,
    error::{Error, Result},
    features::{FrontEnd, FrontEndSnapshot},
    lane::Class as StreamClass,
    metrics::StreamMetrics,
    model::{EncoderSnapshot, Model},
    text::{EndReason, EndpointConfig, Event, Segmenter, TextShaping},
};

/// Samples converted at a time.
const BLOCK: usize = 1600;

/// Transcribes one stream of audio.
pub struct Stream {
    front_end: FrontEnd,
    pipeline: StreamPipeline,
    /// Buffer for converted samples.
    block: Vec<f32>,
    metrics: StreamMetrics,
    /// Samples received, without padding.
    samples: u64,
    /// Whether no more samples may be added.
    ended: bool,
    finished: bool,
    /// Whether calls return while a window waits for a server.
    returns_while_waiting: bool,
}

/// The state of a [`Stream`]: audio that was not encoded yet, the encoder's caches, the decoder's state, the words of the
/// current utterance, and pending events. It is empty until [`Stream::save`] fills it, and does not keep the model in memory.
/// Where streams are batched on a device, the caches stay there, in one of the two places that each stream has.
///
/// ```no_run
/// # fn main() -> nemostt::Result<()> {
/// # let mut stream = nemostt::Recognizer::load("model-directory", &Default::default())?.stream()?;
/// # let (early, late) = (vec![0.0; 1600], vec![0.0; 1600]);
/// let mut snapshot = nemostt::Snapshot::default();
/// stream.accept(&early)?;
/// stream.save(&mut snapshot);
/// // The transcript so far, as if the audio ended here.
/// stream.finish(0)?;
/// while let Some(event) = stream.next_event() {
///     println!("{event:?}");
/// }
/// // But it did not end.
/// stream.restore(&snapshot)?;
/// stream.accept(&late)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Snapshot {
    model: Weak<Model>,
    front_end: FrontEndSnapshot,
    chunker: ChunkerSnapshot,
    encoder: EncoderSnapshot,
    decoder: DecoderSnapshot,
    segmenter: Option<Segmenter>,
    /// Only used where a device may be replaced.
    history: History,
    waiting: Waiting,
    frames: u64,
    samples: u64,
    ended: bool,
    finished: bool,
}

/// Called with each window and the encoder's output; see [`Stream::accept_observed`].
pub type Observer<'a> = dyn FnMut(&Window<'_>, &[f32]) + 'a;

impl Stream {
    /// Largest magnitude of a sample: a spectrum of 512 such samples still has finite power in float32. Whole numbers of 32 bits
    /// that nobody scaled are below it.
    pub const MAX_SAMPLE: f32 = 1e12;

    pub(crate) fn new(model: Arc<Model>) -> Result<Self> {
        let front_end = FrontEnd::new(model.config.front_end);
        let pipeline = StreamPipeline::new(model)?;
        pipeline.model.counters.count_stream();
        Ok(Self {
            front_end,
            pipeline,
            block: Vec::with_capacity(BLOCK),
            metrics: StreamMetrics::default(),
            samples: 0,
            ended: false,
            finished: false,
            returns_while_waiting: false,
        })
    }

    /// Adds mono samples, -1.0 to 1.0, at the model's sample rate. How they are divided into calls does not affect the
    /// events.
    ///
    /// # Errors
    /// [`Error::Finished`] after [`finish`](Self::finish); [`Error::Sample`] for one that is not a number or beyond
    /// [`MAX_SAMPLE`](Self::MAX_SAMPLE); ONNX Runtime's errors, after which the stream must be [reset](Self::reset) or
    /// [restored](Self::restore).
    pub fn accept(&mut self, samples: &[f32]) -> Result<()> {
        self.accept_observed(samples, &mut |_, _| {})
    }

    /// As [`accept`](Self::accept), for 16-bit samples (divided by 32768, as NeMo does).
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub fn accept_s16(&mut self, samples: impl IntoIterator<Item = i16>) -> Result<()> {
        let mut samples = samples.into_iter().map(|sample| f32::from(sample) / 32_768.0);
        let mut block = std::mem::take(&mut self.block);
        let mut result = Ok(());
        while result.is_ok() {
            block.clear();
            block.extend(samples.by_ref().take(BLOCK));
            if block.is_empty() {
                break;
            }
            result = self.accept(&block);
        }
        self.block = block;
        result
    }

    /// As [`accept`](Self::accept), for tests and tools that compare tensors: `observe` sees each window with the
    /// encoder's output for it, \[d_model, chunk\] encoder frames or, with CTC, \[chunk, tokens + 1\]
    /// log-probabilities.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub fn accept_observed(&mut self, samples: &[f32], observe: &mut Observer<'_>) -> Result<()> {
        if self.ended {
            return Err(Error::Finished);
        }
        // One would make every frame of its window NaN, and they every later one through the encoder's caches.
        let invalid = samples.iter().position(|&sample| !Self::is_valid_sample(sample));
        let valid = &samples[..invalid.unwrap_or(samples.len())];
        self.samples += valid.len() as u64;
        self.metrics.samples += valid.len() as u64;
        self.pipeline.model.counters.count_samples(valid.len() as u64);
        self.front_end
            .accept(valid, |frame| self.pipeline.push_frame(frame, observe))?;
        self.wait_for_server(observe)?;
        match invalid {
            None => Ok(()),
            Some(index) => Err(Error::Sample {
                index: self.samples,
                value: samples[index],
            }),
        }
    }

    /// Whether [`accept`](Self::accept) takes `sample`: neither NaN nor beyond [`MAX_SAMPLE`](Self::MAX_SAMPLE).
    pub fn is_valid_sample(sample: f32) -> bool {
        sample.abs() <= Self::MAX_SAMPLE
    }

    /// Ends the stream after `padding` samples of silence (NeMo adds none) and emits the last words. A stream without
    /// samples emits nothing.
    ///
    /// # Errors
    /// [`Error::Finished`] if it is already finished; ONNX Runtime's errors.
    pub fn finish(&mut self, padding: u64) -> Result<()> {
        self.finish_observed(padding, &mut |_, _| {})
    }

    /// As [`finish`](Self::finish), with an observer as in [`accept_observed`](Self::accept_observed).
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn finish_observed(&mut self, padding: u64, observe: &mut Observer<'_>) -> Result<()> {
        self.pad_observed(padding, observe)?;
        self.finished = true;
        if self.samples == 0 {
            return Ok(());
        }
        self.front_end
            .finish(|frame| self.pipeline.push_frame(frame, observe))?;
        self.pipeline.end(observe)?;
        self.wait_for_server(observe)
    }

    /// Adds `padding` samples of silence after the last sample, as [`finish`](Self::finish) does first. Useful to get
    /// the last words as soon as they are decoded. No samples may be added afterwards, and no word extends into the
    /// padding.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn pad(&mut self, padding: u64) -> Result<()> {
        self.pad_observed(padding, &mut |_, _| {})
    }

    fn pad_observed(&mut self, padding: u64, observe: &mut Observer<'_>) -> Result<()> {
        if self.finished {
            return Err(Error::Finished);
        }
        if !std::mem::replace(&mut self.ended, true) && self.samples > 0 {
            self.pipeline.segmenter.end_at(self.samples);
        }
        if self.samples == 0 {
            return Ok(());
        }
        let silence = [0.0; BLOCK];
        let mut remaining = padding;
        while remaining > 0 {
            let block = &silence[..remaining.min(BLOCK as u64) as usize];
            self.front_end
                .accept(block, |frame| self.pipeline.push_frame(frame, observe))?;
            remaining -= block.len() as u64;
        }
        self.wait_for_server(observe)
    }

    /// As [`finish`](Self::finish), for audio that continues in another stream: the last utterance ends with reason
    /// `ending`.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn finish_with_reason(&mut self, ending: EndReason, padding: u64) -> Result<()> {
        self.pipeline.ending = ending;
        let result = self.finish(padding);
        if !self.pipeline.is_waiting() {
            self.pipeline.ending = EndReason::EndOfStream;
        }
        result
    }

    /// Waits for a server if a window does, unless the caller does so itself.
    #[cfg_attr(
        not(feature = "triton"),
        allow(clippy::unused_self, clippy::needless_pass_by_ref_mut)
    )]
    fn wait_for_server(&mut self, observe: &mut Observer<'_>) -> Result<()> {
        #[cfg(feature = "triton")]
        while self.pipeline.is_waiting() && !self.returns_while_waiting {
            if self.pipeline.link.wait() {
                return Err(Error::Interrupted);
            }
            self.pipeline.retry(observe)?;
        }
        #[cfg(not(feature = "triton"))]
        let _ = observe;
        Ok(())
    }

    /// Whether a window waits for an inference server: see [`set_returns_while_waiting`](Self::set_returns_while_waiting).
    pub fn is_waiting(&self) -> bool {
        self.pipeline.is_waiting()
    }

    /// With [`RemoteFallback::None`](crate::RemoteFallback::None), lets calls return while no server can be used, instead of
    /// waiting for one. The stream then [is waiting](Self::is_waiting), and the caller should call [`retry`](Self::retry) every now
    /// and then before it adds more samples, which would be collected.
    pub fn set_returns_while_waiting(&mut self, returns: bool) {
        self.returns_while_waiting = returns;
    }

    /// Tries again what waits for an inference server, if it is time to, and goes on with what came after it, including the end.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub fn retry(&mut self) -> Result<()> {
        self.pipeline.retry(&mut |_, _| {})
    }

    /// What ends calls that wait for an inference server, from any thread: they return
    /// [`Error::Interrupted`](crate::Error::Interrupted) then, and the stream must be [reset](Self::reset) or
    /// [restored](Self::restore).
    #[cfg(feature = "triton")]
    pub fn set_interrupt(&mut self, interrupt: &nemostt_triton::Interrupt) {
        self.pipeline.set_interrupt(interrupt);
    }

    /// The oldest change between servers, the CPU and waiting that was not taken yet: each is reported once.
    #[cfg(feature = "triton")]
    pub fn take_remote_change(&mut self) -> Option<RemoteChange> {
        self.pipeline.link.take_change()
    }

    /// Configures endpointing for the following audio. It is off by default.
    pub fn set_endpoint_config(&mut self, config: EndpointConfig) {
        self.pipeline.segmenter.set_endpoint_config(config);
    }

    /// Sets the language of the following audio: a code such as `en-US`, which a multilingual model is prompted with, or `auto`.
    /// [Text shaping](Self::set_text_shaping) follows it, too, unless the model reports the language; before, it takes models of
    /// one language for English, since most are.
    ///
    /// # Errors
    /// [`Error::Language`] if the model does not support it; the language is then not changed.
    pub fn set_language(&mut self, language: &str) -> Result<()> {
        if let Some(languages) = &self.pipeline.model.config.languages {
            self.pipeline.encoder.set_prompt(languages.prompt(language)?);
        }
        self.pipeline.set_text_language(language);
        Ok(())
    }

    /// Sets how tokens are chosen, at the start of the stream. It stays set when the stream is [reset](Self::reset).
    ///
    /// # Errors
    /// [`Error::DecodingMethod`] if the stream has audio, or a value is out of range; [`Error::OtherLanguageModel`]. The stream is
    /// not changed.
    pub fn set_decoding_method(&mut self, method: &DecodingMethod) -> Result<()> {
        if self.samples > 0 || self.finished {
            let reason =
                "it cannot be changed in the middle of a stream; set it before the first samples, or after a reset";
            return Err(Error::DecodingMethod { reason: reason.into() });
        }
        let config = &self.pipeline.model.config;
        if let DecodingMethod::Beam(beam) = method {
            beam.check(config.vocabulary_size)?;
        }
        self.pipeline.decoder.set_method(method.clone(), config.vocabulary_size);
        Ok(())
    }

    /// Boosts the phrases of `tree` in the following audio, from the next chunk on, or none. They stay set when the stream is
    /// [reset](Self::reset). In greedy decoding, as in NeMo's, a phrase is preferred to other tokens, but not to blank; in beam
    /// search, its score is added to that of a hypothesis.
    ///
    /// # Errors
    /// [`Error::OtherBoostingTree`] if it was built for another model; the stream is not changed.
    pub fn set_boosting_tree(&mut self, tree: Option<&BoostingTree>) -> Result<()> {
        if tree.is_some_and(|tree| !tree.is_of(&self.pipeline.model.vocabulary)) {
            return Err(Error::OtherBoostingTree);
        }
        self.pipeline.decoder.set_boosting_tree(tree);
        Ok(())
    }

    /// As [`set_boosting_tree`](Self::set_boosting_tree), with the tree of `hotwords`, which is shared with other streams of
    /// the model that have the same ones. An empty list boosts nothing.
    ///
    /// # Errors
    /// As [`Recognizer::boosting_tree`](crate::Recognizer::boosting_tree); the stream is not changed.
    pub fn set_hotwords(&mut self, hotwords: &Hotwords) -> Result<()> {
        let model = &self.pipeline.model;
        let tree = match hotwords.is_empty() {
            true => None,
            false => Some(model.boosting.get(&model.vocabulary, hotwords)?),
        };
        self.set_boosting_tree(tree.as_ref())
    }

    /// Sets how confidence is computed, from the next chunk on; what is in the word in progress stays as it is.
    ///
    /// # Errors
    /// [`Error::Confidence`] if α is not above 0 and finite; the stream is not changed.
    pub fn set_confidence(&mut self, config: ConfidenceConfig) -> Result<()> {
        config.check()?;
        self.pipeline.decoder.set_confidence(config);
        self.pipeline.segmenter.set_confidence(config);
        Ok(())
    }

    /// Changes words as `shaping` says, from the next one on. It stays set when the stream is [reset](Self::reset).
    pub fn set_text_shaping(&mut self, shaping: &Arc<TextShaping>) {
        let punctuates = self.pipeline.punctuates;
        self.pipeline.segmenter.set_shaping(shaping, punctuates);
    }

    /// Words that begin before `sample` are not joined with others, as words of one number are: for an application that has shown
    /// some of them, after [`finish`](Self::finish), has [restored](Self::restore) the stream, and looks for those that it knows.
    pub fn separate_words_until(&mut self, sample: u64) {
        self.pipeline.segmenter.separate_until(sample);
    }

    /// Sets how urgent the following steps are among those of other streams. By default, a stream is live.
    pub fn set_class(&mut self, class: StreamClass) {
        self.pipeline.encoder.set_class(class);
    }

    /// Why the stream went on on the CPU, if it has since the last call: with [`Device::Auto`](crate::Device::Auto), the
    /// window at which another device fails is computed on the CPU, and so are those of all streams of the model from then
    /// on. Text so far does not change, and no audio is lost.
    pub fn take_device_failure(&mut self) -> Option<Arc<str>> {
        self.pipeline.notice.take()
    }

    /// The device that it runs on.
    pub fn device(&self) -> Device {
        self.pipeline.model.config.device
    }

    /// The next event, oldest first.
    pub fn next_event(&mut self) -> Option<Event> {
        let event = self.pipeline.segmenter.pop();
        if let Some(Event::Word(_)) = event {
            self.metrics.words += 1;
            self.pipeline.model.counters.count_word();
        }
        event
    }

    /// What the stream has done so far.
    pub fn metrics(&self) -> StreamMetrics {
        StreamMetrics {
            steps: self.pipeline.steps,
            ..self.metrics
        }
    }

    /// Resets the stream to its initial state, without freeing memory.
    pub fn reset(&mut self) {
        self.front_end.reset();
        self.pipeline.reset();
        self.samples = 0;
        self.ended = false;
        self.finished = false;
    }

    /// Copies the stream's state to `snapshot`, whose allocations are reused; words and events are cloned.
    pub fn save(&self, snapshot: &mut Snapshot) {
        self.front_end.save(&mut snapshot.front_end);
        self.pipeline.save(snapshot);
        snapshot.samples = self.samples;
        snapshot.ended = self.ended;
        snapshot.finished = self.finished;
    }

    /// Restores the state saved in `snapshot`, from this or another stream of the same model. Everything since,
    /// including errors, [`finish`](Self::finish), [`set_endpoint_config`](Self::set_endpoint_config),
    /// [`set_language`](Self::set_language), [`set_boosting_tree`](Self::set_boosting_tree),
    /// [`set_decoding_method`](Self::set_decoding_method), [`set_confidence`](Self::set_confidence) and
    /// [`set_text_shaping`](Self::set_text_shaping), is undone, and events that were pending are pending again. A snapshot can
    /// be restored any number of times.
    ///
    /// # Errors
    /// [`Error::OtherSnapshot`] if it was saved from a stream of another model, or is empty. If it was saved before the model
    /// moved to the CPU, see [`take_device_failure`](Self::take_device_failure): errors of ONNX Runtime. The stream is not
    /// changed then.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.pipeline.restore(snapshot)?;
        self.front_end.restore(&snapshot.front_end);
        self.samples = snapshot.samples;
        self.ended = snapshot.ended;
        self.finished = snapshot.finished;
        Ok(())
    }

    /// Samples added since the start of the stream.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// All further words begin at this sample or later. Never exceeds [`samples`](Self::samples).
    pub fn stable_until(&self) -> u64 {
        self.pipeline.stable_until().min(self.samples)
    }

    /// All further utterances begin at this sample or later.
    pub fn utterance_stable_until(&self) -> u64 {
        let start = self.pipeline.segmenter.utterance_start();
        start.unwrap_or(u64::MAX).min(self.stable_until())
    }

    /// Whether an utterance has begun and not ended.
    pub fn has_utterance(&self) -> bool {
        let undecided = self.pipeline.decoder.undecided();
        self.pipeline.segmenter.utterance_start().is_some() || !undecided.tokens.is_empty()
    }

    /// Valid frames in the encoder's attention cache.
    pub fn cache_len(&self) -> i64 {
        self.pipeline.encoder.cache_len()
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The recogniser: [`Recognizer`] is a loaded model, shared; [`Stream`] is one speaker's audio on its way through it.

use std::{
    path::Path,
    sync::{Arc, Weak},
};

use crate::{
    chunker::{Chunker, ChunkerSnapshot, Window},
    decode::{Ctc, CtcSnapshot, Rnnt, TransducerScorer},
    error::{Error, Result},
    features::{FrontEnd, FrontEndSnapshot},
    memory_guard,
    model::{EncoderSnapshot, EncoderState, Model, ModelConfig, Options, TransducerSnapshot, TransducerState},
    text::{EndReason, EndpointConfig, Event, Segmenter},
};

/// Samples converted at a time.
const BLOCK: usize = 1600;

/// A loaded model. Cheap to clone; every clone and every stream shares the weights.
///
/// ```no_run
/// # fn main() -> nemostt::Result<()> {
/// use nemostt::{Event, Options, Recognizer};
///
/// let recognizer = Recognizer::load("model-directory", &Options::default())?;
/// let mut stream = recognizer.stream()?;
/// # let microphone: Vec<Vec<f32>> = Vec::new();
/// let mut print = |stream: &mut nemostt::Stream| {
///     while let Some(event) = stream.next_event() {
///         if let Event::Word(word) = event {
///             println!("{} {}", word.start, word.text);
///         }
///     }
/// };
/// for samples in microphone {
///     stream.accept(&samples)?;
///     print(&mut stream);
/// }
/// stream.finish(0)?;
/// print(&mut stream);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Recognizer {
    model: Arc<Model>,
}

impl Recognizer {
    /// Loads the model in a directory: NeMo's export (`encoder-*.onnx` with `decoder_joint-*.onnx`, or one CTC graph, or
    /// all three) with `tokens.txt`, `vocab.txt` or `tokenizer.model`. `path` may also name the one encoder or CTC graph
    /// to use of several in a directory.
    ///
    /// # Errors
    /// Whatever is wrong with ONNX Runtime, the files or the options, with the cure: see [`Error`].
    pub fn load(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        Ok(Self {
            model: Arc::new(Model::load(path.as_ref(), options)?),
        })
    }

    /// Loads the small model that is compiled in: about 100 words, trained on synthetic voices.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    #[cfg(feature = "embedded-model")]
    pub fn embedded(options: &Options) -> Result<Self> {
        Ok(Self {
            model: Arc::new(Model::embedded(options)?),
        })
    }

    /// The numbers of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.model.config
    }

    /// The graphs that it was loaded from.
    pub fn graphs(&self) -> &[crate::model::GraphFile] {
        &self.model.graphs
    }

    /// The text of label `id` as its vocabulary writes it.
    pub fn piece(&self, id: usize) -> Option<&crate::text::TokenText> {
        self.model.vocabulary.piece(id)
    }

    /// A handle that does not keep the model in memory.
    pub fn downgrade(&self) -> WeakRecognizer {
        WeakRecognizer(Arc::downgrade(&self.model))
    }

    /// Whether both share one model in memory.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.model, &other.model)
    }

    /// A new stream.
    ///
    /// # Errors
    /// Out of memory.
    pub fn stream(&self) -> Result<Stream> {
        memory_guard::check("make a stream")?;
        Stream::new(self.model.clone())
    }
}

/// A [`Recognizer`] that does not keep its model in memory.
#[derive(Clone)]
pub struct WeakRecognizer(Weak<Model>);

impl WeakRecognizer {
    /// The recogniser, while somebody still holds its model.
    pub fn upgrade(&self) -> Option<Recognizer> {
        self.0.upgrade().map(|model| Recognizer { model })
    }
}

impl std::fmt::Debug for Recognizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Recognizer").field(self.config()).finish()
    }
}

/// One stream of audio on its way through a model.
pub struct Stream {
    front_end: FrontEnd,
    pipeline: StreamPipeline,
    /// Room for converted samples.
    block: Vec<f32>,
    /// Samples heard, without padding.
    samples: u64,
    /// No more samples may come.
    ended: bool,
    finished: bool,
}

/// The state of a [`Stream`] at one moment, in host memory whatever the device: the audio that is not encoded yet, the encoder's
/// caches, the decoder's state, the words of the current utterance and the events not taken yet. It is empty until
/// [`Stream::save`] fills it, and does not keep the model in memory.
///
/// ```no_run
/// # fn main() -> nemostt::Result<()> {
/// # let mut stream = nemostt::Recognizer::load("model-directory", &Default::default())?.stream()?;
/// # let (early, late) = (vec![0.0; 1600], vec![0.0; 1600]);
/// let mut snapshot = nemostt::Snapshot::default();
/// stream.accept(&early)?;
/// stream.save(&mut snapshot);
/// // What is there so far, as if the audio ended here.
/// stream.finish(0)?;
/// while let Some(event) = stream.next_event() {
///     println!("{event:?}");
/// }
/// // It did not.
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
    /// Of a transducer's stream; else it stays empty.
    transducer: TransducerSnapshot,
    /// Of a CTC model's stream.
    ctc: CtcSnapshot,
    segmenter: Option<Segmenter>,
    frames: u64,
    samples: u64,
    ended: bool,
    finished: bool,
}

/// Sees each window with the encoder's output for it; see [`Stream::accept_observed`].
pub type Observer<'a> = dyn FnMut(&Window<'_>, &[f32]) + 'a;

impl Stream {
    fn new(model: Arc<Model>) -> Result<Self> {
        Ok(Self {
            front_end: FrontEnd::new(model.config.front_end),
            pipeline: StreamPipeline::new(model)?,
            block: Vec::with_capacity(BLOCK),
            samples: 0,
            ended: false,
            finished: false,
        })
    }

    /// Takes mono samples, -1.0 to 1.0, at the model's sample rate. However they are cut into calls, the events are
    /// the same.
    ///
    /// # Errors
    /// [`Error::Finished`] after [`finish`](Self::finish); ONNX Runtime's errors, after which the stream must be
    /// [reset](Self::reset) or [restored](Self::restore).
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
    /// encoder's output for it, \[width, chunk\] frame features or, with CTC, \[chunk, labels + 1\] log-probabilities.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub fn accept_observed(&mut self, samples: &[f32], observe: &mut Observer<'_>) -> Result<()> {
        if self.ended {
            return Err(Error::Finished);
        }
        self.samples += samples.len() as u64;
        self.front_end
            .accept(samples, |frame| self.pipeline.push_frame(frame, observe))
    }

    /// Ends the stream after `padding` samples of silence (0 is exactly what NeMo does) and gives out its last words.
    /// A stream without a single sample has nothing to say.
    ///
    /// # Errors
    /// [`Error::Finished`] if it was finished already; ONNX Runtime's errors.
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
        self.pipeline.end(observe)
    }

    /// Adds `padding` samples of silence after the last sample: a part of what [`finish`](Self::finish) does, for those who
    /// want its words as they come. No samples can be added after it, and no word reaches into it.
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
        let mut left = padding;
        while left > 0 {
            let block = &silence[..left.min(BLOCK as u64) as usize];
            self.front_end
                .accept(block, |frame| self.pipeline.push_frame(frame, observe))?;
            left -= block.len() as u64;
        }
        Ok(())
    }

    /// As [`finish`](Self::finish), for a stream that goes on elsewhere: its last utterance is over because of `ending`.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn finish_with_reason(&mut self, ending: EndReason, padding: u64) -> Result<()> {
        self.pipeline.ending = ending;
        let result = self.finish(padding);
        self.pipeline.ending = EndReason::EndOfStream;
        result
    }

    /// Says what silence means from now on; at the start it means nothing.
    pub fn set_endpoint_config(&mut self, pauses: EndpointConfig) {
        self.pipeline.segmenter.set_endpoint_config(pauses);
    }

    /// Tells a multilingual model which language is spoken from now on: a code such as `en-US`, or `auto`. A model of one
    /// language hears that one, whatever this says.
    ///
    /// # Errors
    /// [`Error::Language`] if the model does not know it; it goes on hearing the one before.
    pub fn set_language(&mut self, language: &str) -> Result<()> {
        if let Some(languages) = &self.pipeline.model.config.languages {
            self.pipeline.encoder.set_prompt(languages.prompt(language)?);
        }
        Ok(())
    }

    /// The next event, oldest first.
    pub fn next_event(&mut self) -> Option<Event> {
        self.pipeline.segmenter.pop()
    }

    /// Forgets everything heard: the stream is as new, and keeps its memory.
    pub fn reset(&mut self) {
        self.front_end.reset();
        self.pipeline.reset();
        self.samples = 0;
        self.ended = false;
        self.finished = false;
    }

    /// Copies the stream's state into `snapshot`, which keeps its allocations from one call to the next; the words and events
    /// in it are cloned.
    pub fn save(&self, snapshot: &mut Snapshot) {
        self.front_end.save(&mut snapshot.front_end);
        self.pipeline.save(snapshot);
        snapshot.samples = self.samples;
        snapshot.ended = self.ended;
        snapshot.finished = self.finished;
    }

    /// Takes the stream back to where `snapshot` was saved, from it or from another stream of the same model: what happened
    /// since, even an error, [`finish`](Self::finish), [`set_endpoint_config`](Self::set_endpoint_config) or
    /// [`set_language`](Self::set_language), changes nothing that it gives out from then on. Events that were waiting then wait
    /// again. A snapshot may be restored any number of times.
    ///
    /// # Errors
    /// [`Error::OtherSnapshot`] if it was saved from a stream of another model, or never; the stream stays as it is.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.pipeline.restore(snapshot)?;
        self.front_end.restore(&snapshot.front_end);
        self.samples = snapshot.samples;
        self.ended = snapshot.ended;
        self.finished = snapshot.finished;
        Ok(())
    }

    /// Samples taken since the start of the stream.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Every word that is still to come begins at this sample or later. It is never ahead of [`samples`](Self::samples).
    pub fn stable_until(&self) -> u64 {
        self.pipeline.stable_until().min(self.samples)
    }

    /// Every utterance that is still to come begins at this sample or later.
    pub fn utterance_stable_until(&self) -> u64 {
        let start = self.pipeline.segmenter.utterance_start();
        start.unwrap_or(u64::MAX).min(self.stable_until())
    }

    /// Whether an utterance has begun and is not over.
    pub fn has_utterance(&self) -> bool {
        self.pipeline.segmenter.utterance_start().is_some()
    }

    /// Real frames in the encoder's attention cache.
    pub fn cache_len(&self) -> i64 {
        self.pipeline.encoder.cache_len()
    }
}

/// What happens to mel frames: window, encoder, decoder, words.
struct StreamPipeline {
    model: Arc<Model>,
    chunker: Chunker,
    encoder: EncoderState,
    decoder: Decoder,
    segmenter: Segmenter,
    /// Encoder frames decoded.
    frames: u64,
    /// Why the last utterance is over when the stream is finished.
    ending: EndReason,
}

enum Decoder {
    Rnnt(Rnnt, Box<TransducerState>),
    Ctc(Ctc),
}

impl StreamPipeline {
    fn new(model: Arc<Model>) -> Result<Self> {
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
                    blank: config.labels,
                    max_symbols: config.max_symbols,
                };
                Decoder::Rnnt(rnnt, Box::new(state))
            }
            None => Decoder::Ctc(Ctc::new(config.labels)),
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

    /// Takes a mel frame and decodes the window that it fills, if it does.
    fn push_frame(&mut self, frame: &[f32], observe: &mut Observer<'_>) -> Result<()> {
        self.chunker.push(frame);
        match self.chunker.is_full() {
            true => self.step(observe),
            false => Ok(()),
        }
    }

    /// Decodes the last window and gives out the last word.
    fn end(&mut self, observe: &mut Observer<'_>) -> Result<()> {
        if self.chunker.has_new() {
            self.step(observe)?;
        }
        self.segmenter.finish(self.ending);
        Ok(())
    }

    /// Encodes and decodes the window.
    fn step(&mut self, observe: &mut Observer<'_>) -> Result<()> {
        if let (Decoder::Rnnt(_, state), Some(transducer)) = (&mut self.decoder, &self.model.transducer) {
            state.prepare(transducer)?;
        }
        let window = self.chunker.window();
        let frames = self.encoder.step(&self.model.encoder, &window)?;
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
            // `new` makes the decoder that the model has.
            (Decoder::Rnnt(..), None) => {}
        }
        self.frames += frames as u64;
        self.segmenter.decoded(self.frames);
        Ok(())
    }

    fn stable_until(&self) -> u64 {
        // A frame is decoded when its middle is heard: one less than that surely is over.
        let over = self.frames.saturating_sub(1) * self.model.config.frame_samples();
        self.segmenter.pending_start().unwrap_or(over)
    }

    fn reset(&mut self) {
        self.chunker.reset();
        self.encoder.reset();
        match &mut self.decoder {
            Decoder::Rnnt(_, state) => state.reset(),
            Decoder::Ctc(ctc) => ctc.reset(),
        }
        self.segmenter.reset();
        self.frames = 0;
    }

    fn save(&self, snapshot: &mut Snapshot) {
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

    fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        // All tensors of streams of one model have the same sizes.
        let is_ours = std::ptr::eq(snapshot.model.as_ptr(), Arc::as_ptr(&self.model));
        let (true, Some(segmenter)) = (is_ours, &snapshot.segmenter) else {
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

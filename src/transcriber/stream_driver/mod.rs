// SPDX-License-Identifier: MIT OR Apache-2.0

//! Audio in, events out: a stream of the recognizer, its pending work, and audio whose timestamps are not understood
//! yet.
//!
//! All work is done in [steps](StreamDriver::step) of at most one window, so that words are emitted as they are
//! decoded, whatever the size of a buffer or hole, and a flush does not have to wait.

mod boosted;
mod configuration;
mod placement;
mod stalled;

use std::collections::VecDeque;

pub(super) use boosted::Boosted;

use super::{
    delivery::Delivery,
    input::{BYTES_PER_SAMPLE, Bytes, Input},
    settings::Settings,
    stall::{Due, Loudness, Stall},
    timestamps::{Moment, Timestamps},
};
use nemostt::{DecodingMethod, EndReason, Event, Recognizer, Result, Snapshot, Stream, StreamClass, StreamMetrics};

/// Samples per step: 80 ms at 16 kHz, the shortest chunk.
const STEP_SAMPLES: usize = 1280;

enum Work {
    Align(Input),
    /// The bytes of a buffer, from this offset on.
    Audio(Bytes, usize),
    /// Silence of this many samples.
    Silence(u64),
    /// Finish everything so far, and start over.
    Finish(EndReason),
    /// Append this many samples of silence after the last sample, then finish.
    Padding(u64, EndReason),
    /// The stream was finished, and what that emits is there.
    Finished(EndReason),
    /// Let time pass without audio.
    Pass(Moment, gst::ClockTime),
}

/// One stream with its position in time.
pub(super) struct StreamDriver {
    stream: Stream,
    /// Samples per encoder frame.
    frame: u64,
    rate: u32,
    timestamps: Timestamps,
    work: VecDeque<Work>,
    /// Audio whose timestamps are not understood yet.
    withheld: VecDeque<Input>,
    /// The first byte of a sample that was split between two buffers.
    rest: Option<u8>,
    events: VecDeque<Event>,
    block: Vec<i16>,
    loudness: Loudness,
    stall: Option<Stall>,
    snapshot: Snapshot,
    /// The language that was last set on the stream, even if the model rejected it.
    language: Option<String>,
    /// To build boosting trees with.
    recognizer: Recognizer,
    /// Revision of the phrases to boost that were last handed over, even if they were rejected.
    hotwords_revision: u64,
    /// Phrases to boost that are not set on the stream yet.
    boosted: Option<Boosted>,
    /// How often each file of text shaping had been set when its error was last reported.
    text_files: [u64; 2],
}

impl StreamDriver {
    pub(super) fn set_live(&mut self, is_live: bool) {
        self.stream.set_class(match is_live {
            true => StreamClass::Live,
            false => StreamClass::File,
        });
    }

    pub(super) fn new(recognizer: &Recognizer, method: &DecodingMethod) -> Result<Self> {
        let config = recognizer.config();
        let rate = config.front_end.sample_rate;
        let mut stream = recognizer.stream()?;
        stream.set_decoding_method(method)?;
        stream.set_returns_while_waiting(true);
        Ok(Self {
            stream,
            frame: config.frame_samples(),
            rate,
            timestamps: Timestamps::new(rate),
            work: VecDeque::new(),
            withheld: VecDeque::new(),
            rest: None,
            events: VecDeque::new(),
            block: Vec::with_capacity(STEP_SAMPLES),
            loudness: Loudness::default(),
            stall: None,
            snapshot: Snapshot::default(),
            language: None,
            recognizer: recognizer.clone(),
            hotwords_revision: 0,
            boosted: None,
            text_files: [0; 2],
        })
    }

    /// What ends waiting for an inference server.
    #[cfg(feature = "triton")]
    pub(super) fn set_interrupt(&mut self, interrupt: &nemostt::Interrupt) {
        self.stream.set_interrupt(interrupt);
    }

    /// Whether audio waits for an inference server.
    #[cfg(feature = "triton")]
    pub(super) fn is_waiting(&self) -> bool {
        self.stream.is_waiting()
    }

    /// What the stream has done so far, whenever it started over.
    pub(super) fn metrics(&self) -> StreamMetrics {
        self.stream.metrics()
    }

    /// Whether there is audio that is not finished.
    pub(super) fn has_samples(&self) -> bool {
        self.stream.samples() > 0
    }

    /// Whether no utterance is in progress in the output.
    pub(super) fn is_between_utterances(&self) -> bool {
        match &self.stall {
            Some(stall) => stall.is_empty(),
            None => !self.stream.has_utterance(),
        }
    }

    /// The end of the audio, not counting what is [withheld](Self::withholds); `None` without audio.
    pub(super) fn end(&self) -> Option<Moment> {
        match self.has_samples() {
            true => self.timestamps.at(self.stream.samples()),
            false => None,
        }
    }

    /// Whether audio is withheld until its timestamps are understood.
    pub(super) fn withholds(&self) -> bool {
        !self.withheld.is_empty()
    }

    /// Number of samples in `duration`.
    pub(super) fn samples(&self, duration: gst::ClockTime) -> u64 {
        self.timestamps.samples(duration)
    }

    /// Duration of `samples` samples.
    pub(super) fn duration(&self, samples: u64) -> gst::ClockTime {
        self.timestamps.duration(samples)
    }

    /// Queues audio or a gap to be processed in steps.
    pub(super) fn push(&mut self, input: Input) {
        self.work.push_back(Work::Align(input));
    }

    /// Queues finishing everything so far, after which the stream starts over. Without audio, nothing is finished.
    pub(super) fn finish(&mut self, ending: EndReason) {
        self.stop_withholding();
        self.work.push_back(Work::Finish(ending));
    }

    /// Queues `duration` without audio from `moment` on.
    pub(super) fn pass(&mut self, moment: Moment, duration: gst::ClockTime) {
        self.work.push_back(Work::Pass(moment, duration));
    }

    /// Does one step of the work. Returns whether there is more.
    pub(super) fn step(&mut self, out: &mut Delivery, settings: &Settings) -> Result<bool> {
        if self.stream.is_waiting() {
            // Nothing is added before the server is back.
            self.stream.retry()?;
            self.collect(out, settings);
            return Ok(self.stream.is_waiting() || !self.work.is_empty());
        }
        match self.work.pop_front() {
            None => return Ok(false),
            Some(Work::Align(input)) => self.align(input, out, settings)?,
            Some(Work::Audio(bytes, from)) => self.audio(bytes, from, out, settings)?,
            Some(Work::Silence(samples)) => {
                let part = samples.min(STEP_SAMPLES as u64);
                if part < samples {
                    self.work.push_front(Work::Silence(samples - part));
                }
                self.block.clear();
                self.block.resize(part as usize, 0);
                self.transcribe(out, settings)?;
            }
            Some(Work::Finish(ending)) => self.end_stream(ending, out, settings)?,
            Some(Work::Padding(samples, ending)) => self.pad(samples, ending, out, settings)?,
            Some(Work::Finished(ending)) => self.leave_stream(ending, out, settings),
            Some(Work::Pass(moment, duration)) => {
                out.queue.restart();
                out.queue.pass(&moment, duration);
            }
        }
        Ok(self.stream.is_waiting() || !self.work.is_empty())
    }

    /// Clears everything except the model.
    pub(super) fn flush(&mut self, out: &mut Delivery) {
        self.work.clear();
        self.withheld.clear();
        self.start_over(out, None);
        self.timestamps.forget();
    }

    /// Transcribes one step of a buffer.
    fn audio(&mut self, bytes: Bytes, from: usize, out: &mut Delivery, settings: &Settings) -> Result<()> {
        self.block.clear();
        let mut left = bytes.get(from..).unwrap_or_default();
        if let (Some(low), Some((&high, after))) = (self.rest, left.split_first()) {
            self.block.push(i16::from_le_bytes([low, high]));
            self.rest = None;
            left = after;
        }
        let (pairs, half) = left.as_chunks();
        let part = &pairs[..pairs.len().min(STEP_SAMPLES)];
        self.block.extend(part.iter().map(|pair| i16::from_le_bytes(*pair)));
        if part.len() < pairs.len() {
            let next = bytes.len() - left.len() + part.len() * BYTES_PER_SAMPLE;
            self.work.push_front(Work::Audio(bytes, next));
        } else if let &[half] = half {
            self.rest = Some(half);
        }
        self.transcribe(out, settings)
    }

    /// Transcribes the samples in `block`.
    fn transcribe(&mut self, out: &mut Delivery, settings: &Settings) -> Result<()> {
        if !self.stream.has_utterance() {
            out.apply(settings);
        }
        self.stream.set_endpoint_config(self.endpoint_config(out, settings));
        self.set_language(out, settings)?;
        self.set_boosted(out)?;
        self.set_text(out, settings)?;
        self.loudness.push(&self.block);
        self.stream.accept_s16(self.block.iter().copied())?;
        self.collect(out, settings);
        Ok(())
    }

    /// Turns events of the stream into output, and advances the output up to where no more text can begin.
    fn collect(&mut self, out: &mut Delivery, settings: &Settings) {
        if let Some(text) = self.stream.take_device_failure() {
            out.queue.device_failure(text);
        }
        #[cfg(feature = "triton")]
        while let Some(change) = self.stream.take_remote_change() {
            out.queue.remote_change(change);
        }
        self.take_events();
        out.processed_until(self.timestamps.at(self.stream.samples()));
        while let Some(event) = self.events.pop_front() {
            let stable_until = self.stream.stable_until();
            let next = self
                .events
                .iter()
                .find_map(start_of)
                .map_or(stable_until, |next| next.min(stable_until));
            out.event(event, next, &self.timestamps, settings);
        }
        if let Some(stable_until) = self.stable_until(out) {
            out.advance(&stable_until, settings);
        }
        self.timestamps.forget_before(self.stream.utterance_stable_until());
    }

    fn take_events(&mut self) {
        let events = std::iter::from_fn(|| self.stream.next_event());
        self.events
            .extend(events.filter(|event| !matches!(event, Event::Token(_))));
    }

    /// Finishes everything so far and starts over; `ending` is the reason.
    fn end_stream(&mut self, ending: EndReason, out: &mut Delivery, settings: &Settings) -> Result<()> {
        if self.has_samples() && self.stall.is_none() {
            let padding = self.padding(settings);
            return self.pad(padding, ending, out, settings);
        }
        self.release(Due::ALL, out, settings);
        self.leave_stream(ending, out, settings);
        Ok(())
    }

    /// Transcribes one step of the silence after the last sample; finishes after the last step.
    fn pad(&mut self, samples: u64, ending: EndReason, out: &mut Delivery, settings: &Settings) -> Result<()> {
        let part = samples.min(STEP_SAMPLES as u64);
        if part > 0 {
            self.stream.pad(part)?;
            self.work.push_front(Work::Padding(samples - part, ending));
            self.collect(out, settings);
            return Ok(());
        }
        self.stream.finish_with_reason(ending, 0)?;
        self.collect(out, settings);
        match self.stream.is_waiting() {
            true => self.work.push_front(Work::Finished(ending)),
            false => self.leave_stream(ending, out, settings),
        }
        Ok(())
    }

    /// Leaves a stream of which everything has been emitted, or waits in cues.
    fn leave_stream(&mut self, ending: EndReason, out: &mut Delivery, settings: &Settings) {
        let end = self.end();
        out.flush_cues(ending == EndReason::EndOfStream, settings);
        if let Some(end) = &end {
            out.queue.gap_until(end);
        }
        self.start_over(out, end);
        out.apply(settings);
    }

    /// Samples of silence to append after the last one.
    fn padding(&self, settings: &Settings) -> u64 {
        self.samples(gst::ClockTime::from_mseconds(settings.eos_padding.into()))
    }

    fn start_over(&mut self, out: &mut Delivery, end: Option<Moment>) {
        self.stream.reset();
        self.timestamps.reset(end);
        self.loudness.clear();
        self.events.clear();
        self.rest = None;
        self.stall = None;
        out.restart();
    }

    /// The sample at running time `running`, in nanoseconds; extrapolated beyond the last one.
    pub(super) fn sample_at(&self, running: i64) -> u64 {
        self.timestamps.sample_at(running)
    }

    /// Running time before which no further text can begin, in nanoseconds; `None` if no text is pending.
    pub(super) fn pending(&self, out: &Delivery) -> Option<i64> {
        if !self.has_samples()
            || self
                .stall
                .as_ref()
                .is_some_and(|stall| !stall.has_words(out.is_by_word()))
        {
            return None;
        }
        self.stable_until(out).map(|moment| moment.running())
    }

    /// The moment before which no further text can begin.
    fn stable_until(&self, out: &Delivery) -> Option<Moment> {
        self.timestamps.at(match out.is_by_word() {
            true => self.stream.stable_until(),
            false => self.stream.utterance_stable_until(),
        })
    }

    /// Whether the output does not have to wait for anything from this stream.
    pub(super) fn is_drained(&self) -> bool {
        match &self.stall {
            Some(stall) => stall.is_empty(),
            None => !self.has_samples(),
        }
    }
}

/// First sample of the text of `event`.
fn start_of(event: &Event) -> Option<u64> {
    match event {
        Event::Word(word) => Some(word.start),
        Event::Utterance(utterance) => Some(utterance.start()),
        _ => None,
    }
}

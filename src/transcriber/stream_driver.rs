// SPDX-License-Identifier: MIT OR Apache-2.0

//! Audio in, events out: a stream of the recogniser, what is to be done next, and what is not clear yet.
//!
//! All work is done in [steps](StreamDriver::step) of at most one window, so that words leave as they are decoded, whatever
//! the size of a buffer or a hole, and a flush need not wait.

use std::{collections::VecDeque, sync::Arc};

use super::{
    delivery::Delivery,
    input::{Bytes, Content, Input},
    settings::Settings,
    stall::{Due, Loudness, Stall},
    timestamps::{BYTES_PER_SAMPLE, JumpCause, Moment, Placement, Timestamps},
};
use nemostt::{EndReason, EndpointConfig, Error, Event, Recognizer, Result, Snapshot, Stream};

/// Samples of a step: 80 ms at 16 kHz, the shortest chunk there is.
const STEP_SAMPLES: usize = 1280;

enum Work {
    Align(Input),
    /// The bytes of a buffer from this one on.
    Audio(Bytes, usize),
    Silence(u64),
    /// Everything so far is decided, and the stream starts over.
    Finish(EndReason),
    /// This much silence after the last sample, and then the rest of it.
    Padding(u64, EndReason),
    /// Time goes by without audio.
    Pass(Moment, gst::ClockTime),
}

/// One stream with its place in time.
pub(super) struct StreamDriver {
    stream: Stream,
    /// Samples from one encoder frame to the next.
    frame: u64,
    rate: u32,
    timestamps: Timestamps,
    work: VecDeque<Work>,
    /// Audio whose timestamps are not understood yet.
    withheld: VecDeque<Input>,
    /// Half a sample: the rest of a buffer.
    rest: Option<u8>,
    events: VecDeque<Event>,
    block: Vec<i16>,
    loudness: Loudness,
    stall: Option<Stall>,
    snapshot: Snapshot,
    /// What the stream was told that people speak, or what it refused.
    language: Option<String>,
}

impl StreamDriver {
    pub(super) fn new(recognizer: &Recognizer) -> Result<Self> {
        let config = recognizer.config();
        let rate = config.front_end.sample_rate;
        Ok(Self {
            stream: recognizer.stream()?,
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
        })
    }

    /// Whether there is audio that was not finished.
    pub(super) fn has_samples(&self) -> bool {
        self.stream.samples() > 0
    }

    /// Whether no utterance is in progress, as far as was given out.
    pub(super) fn is_between_utterances(&self) -> bool {
        match &self.stall {
            Some(stall) => stall.is_empty(),
            None => !self.stream.has_utterance(),
        }
    }

    /// Where audio ends, without what is [withheld](Placement::Withhold).
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

    /// Samples that last for `duration`.
    pub(super) fn samples(&self, duration: gst::ClockTime) -> u64 {
        self.timestamps.samples(duration)
    }

    /// Time that `samples` samples last.
    pub(super) fn duration(&self, samples: u64) -> gst::ClockTime {
        self.timestamps.duration(samples)
    }

    /// Takes audio or a gap, to be worked on in steps.
    pub(super) fn push(&mut self, input: Input) {
        self.work.push_back(Work::Align(input));
    }

    /// Decides everything so far; the stream then starts over. Nothing happens where nothing came.
    pub(super) fn finish(&mut self, ending: EndReason) {
        self.stop_withholding();
        self.work.push_back(Work::Finish(ending));
    }

    /// Lets time go by without audio.
    pub(super) fn pass(&mut self, moment: Moment, duration: gst::ClockTime) {
        self.work.push_back(Work::Pass(moment, duration));
    }

    /// Does a part of the work. Gives whether there is more.
    pub(super) fn step(&mut self, out: &mut Delivery, settings: &Settings) -> Result<bool> {
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
            Some(Work::Pass(moment, duration)) => {
                out.queue.restart();
                out.queue.pass(&moment, duration);
            }
        }
        Ok(!self.work.is_empty())
    }

    /// Forgets everything but the model.
    pub(super) fn flush(&mut self, out: &mut Delivery) {
        self.work.clear();
        self.withheld.clear();
        self.start_over(out, None);
        self.timestamps.forget();
    }

    /// Finds the place of `input`, and what is to be done with it.
    fn align(&mut self, mut input: Input, out: &mut Delivery, settings: &Settings) -> Result<()> {
        let is_new_segment = self
            .withheld
            .back()
            .is_some_and(|last| !Arc::ptr_eq(&last.segment, &input.segment));
        if self.withholds() && (input.confirmed || is_new_segment) {
            self.work.push_front(Work::Align(input));
            self.stop_withholding();
            return Ok(());
        }
        let waiting: u64 = self.withheld.iter().map(Input::samples).sum();
        let count = self.stream.samples() + waiting;
        let placement = self.timestamps.align(&input.arrival(), &input.segment, count);
        if placement == Placement::Withhold {
            self.withheld.push_back(input);
            if let Some(cause) = self.watched() {
                self.resolve(cause);
            }
            return Ok(());
        }
        if self.withholds() {
            // The stamps are what they should be: what was withheld was late.
            self.work.push_front(Work::Align(input));
            self.resolve(JumpCause::Late);
            return Ok(());
        }
        let limit = self.samples(settings.gap_threshold());
        let len = input.samples();
        match (placement, &input.content) {
            // What is there already is not made silent.
            (Placement::Overlap(samples), Content::Gap(len)) if samples >= *len => return Ok(()),
            (Placement::Hole(samples) | Placement::Overlap(samples), _) if samples > limit => {
                input.confirmed = true;
                self.work.push_front(Work::Align(input));
                self.work.push_front(Work::Finish(EndReason::Pause));
                return Ok(());
            }
            _ => {}
        }
        self.resume(out);
        if placement == Placement::First {
            out.queue.restart();
            if let Some(first) = self.timestamps.at(0) {
                out.queue.gap_until(&first);
            }
        }
        let (silence, skipped) = match placement {
            Placement::Hole(samples) => (samples, 0),
            Placement::Overlap(samples) => (0, samples.min(len)),
            _ => (0, 0),
        };
        if silence > 0 || skipped > 0 {
            self.rest = None;
        }
        match input.content {
            Content::Audio(bytes) => self
                .work
                .push_front(Work::Audio(bytes, skipped as usize * BYTES_PER_SAMPLE)),
            Content::Gap(samples) => self.work.push_front(Work::Silence(samples - skipped)),
        }
        if silence > 0 {
            self.work.push_front(Work::Silence(silence));
        }
        Ok(())
    }

    /// Transcribes a part of a buffer.
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
        self.stream.set_endpoint_config(self.endpoint_config(settings));
        self.tell_language(out, settings)?;
        self.loudness.push(&self.block);
        self.stream.accept_s16(self.block.iter().copied())?;
        self.collect(out, settings);
        Ok(())
    }

    /// Tells the model which language is spoken. It goes on with the one before where it does not know it.
    fn tell_language(&mut self, out: &mut Delivery, settings: &Settings) -> Result<()> {
        if self.language.as_deref() == Some(settings.language()) {
            return Ok(());
        }
        self.language = Some(settings.language().into());
        match self.stream.set_language(settings.language()) {
            Err(error @ Error::Language { .. }) => {
                out.queue.warning(format!("language-code: {error}"));
                Ok(())
            }
            result => result,
        }
    }

    fn endpoint_config(&self, settings: &Settings) -> EndpointConfig {
        let frame_ms = self.frame * 1000 / u64::from(self.rate);
        let frames = |ms: u32| (ms > 0).then(|| u64::from(ms).div_ceil(frame_ms));
        let samples = |ms: u32| u64::from(ms) * u64::from(self.rate) / 1000;
        EndpointConfig {
            word: frames(settings.word_hold),
            utterance: frames(settings.endpoint_silence),
            partials: settings.post_partials,
            min_word: samples(settings.min_word_duration),
            longest_word: settings.longest_word().and_then(frames),
            max_utterance: (settings.max_utterance > 0).then(|| samples(settings.max_utterance)),
            max_utterance_chars: (settings.max_utterance_chars > 0).then_some(settings.max_utterance_chars as usize),
        }
    }

    /// Turns events of the stream into output, and lets the output come as far as the stream is decided.
    fn collect(&mut self, out: &mut Delivery, settings: &Settings) {
        self.take_events();
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
            out.queue.gap_until(&stable_until);
        }
        self.timestamps.forget_before(self.stream.utterance_stable_until());
    }

    fn take_events(&mut self) {
        let events = std::iter::from_fn(|| self.stream.next_event());
        self.events
            .extend(events.filter(|event| !matches!(event, Event::Token(_))));
    }

    /// Decides everything so far, because of `ending`, and starts over.
    fn end_stream(&mut self, ending: EndReason, out: &mut Delivery, settings: &Settings) -> Result<()> {
        if self.has_samples() && self.stall.is_none() {
            let padding = self.padding(settings);
            return self.pad(padding, ending, out, settings);
        }
        self.release(Due::ALL, out, settings);
        self.leave_stream(out, settings);
        Ok(())
    }

    /// Transcribes a part of the silence after the last sample, and finishes after the last part.
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
        self.leave_stream(out, settings);
        Ok(())
    }

    /// The stream is over, and all of it is said.
    fn leave_stream(&mut self, out: &mut Delivery, settings: &Settings) {
        let end = self.end();
        if let Some(end) = &end {
            out.queue.gap_until(end);
        }
        self.start_over(out, end);
        out.apply(settings);
    }

    /// Samples of silence to add after the last one.
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

    /// Input stalls: decides what can be decided without knowing what comes.
    pub(super) fn begin_stall(&mut self, settings: &Settings) -> Result<()> {
        let Some(end) = self.end().filter(|_| self.stall.is_none()) else {
            return Ok(());
        };
        let samples = self.stream.samples();
        self.stream.save(&mut self.snapshot);
        self.stream
            .finish_with_reason(EndReason::Pause, self.padding(settings))?;
        self.take_events();
        let events = std::mem::take(&mut self.events);
        let is_cut = self.loudness.ends_in_speech();
        self.stall = Some(Stall::new(events, end.running(), samples, is_cut, self.frame));
        Ok(())
    }

    /// The sample at running time `running`, in nanoseconds, counted on beyond the last one.
    pub(super) fn sample_at(&self, running: i64) -> u64 {
        self.timestamps.sample_at(running)
    }

    /// When input stalled, in nanoseconds of running time, if it does.
    pub(super) fn stalled_since(&self) -> Option<i64> {
        self.stall.as_ref().map(|stall| stall.end)
    }

    /// Running time before which no text can begin that is still to come, in nanoseconds; `None` if none is to come.
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

    /// The moment before which no text begins that is still to be decided.
    fn stable_until(&self, out: &Delivery) -> Option<Moment> {
        self.timestamps.at(match out.is_by_word() {
            true => self.stream.stable_until(),
            false => self.stream.utterance_stable_until(),
        })
    }

    /// Whether the output need not wait for anything of this stream.
    pub(super) fn is_drained(&self) -> bool {
        match &self.stall {
            Some(stall) => stall.is_empty(),
            None => !self.has_samples(),
        }
    }

    /// Gives out what is due while input stalls.
    pub(super) fn release(&mut self, due: Due, out: &mut Delivery, settings: &Settings) {
        let Some(stall) = &mut self.stall else { return };
        let samples = self.stream.samples();
        while let Some(event) = stall.next(due, out.is_by_word()) {
            out.event_early(event, samples, &self.timestamps, settings);
        }
        if !stall.has_words(out.is_by_word())
            && let Some(end) = self.timestamps.at(samples)
        {
            out.queue.gap_until(&end);
        }
    }

    /// Input came again, and the stream goes on where it was.
    fn resume(&mut self, out: &mut Delivery) {
        if self.stall.take().is_some() && self.stream.restore(&self.snapshot).is_err() {
            // Unreachable: the snapshot is of this stream. Then at least nothing is said twice.
            self.start_over(out, None);
        }
    }

    /// What the stamps of withheld audio say by now.
    fn watched(&self) -> Option<JumpCause> {
        let (first, last, between) = self.withheld_stamps()?;
        self.timestamps.watched(first, last, between)
    }

    fn likely_cause(&self) -> JumpCause {
        match self.withheld_stamps() {
            Some((first, last, between)) => self.timestamps.most_likely_cause(first, last, between),
            None => JumpCause::Hole,
        }
    }

    /// Stamps of the first and the last withheld buffer that have one, and the samples between their beginnings.
    fn withheld_stamps(&self) -> Option<(gst::ClockTime, gst::ClockTime, u64)> {
        let first = self.withheld.front()?.pts?;
        let last = self.withheld.iter().rposition(|input| input.pts.is_some())?;
        let between = self.withheld.iter().take(last).map(Input::samples).sum();
        Some((first, self.withheld.get(last)?.pts?, between))
    }

    /// Works on what was withheld, before all other work.
    fn resolve(&mut self, cause: JumpCause) {
        self.timestamps.resolve(cause);
        while let Some(mut input) = self.withheld.pop_back() {
            match cause {
                // The others are as far off as the first one.
                JumpCause::Hole => input.confirmed |= self.withheld.is_empty(),
                JumpCause::Late => input.pts = None,
            }
            self.work.push_front(Work::Align(input));
        }
    }

    /// Works on withheld audio although its timestamps are not understood: nothing came that could explain them.
    pub(super) fn stop_withholding(&mut self) {
        if self.withholds() {
            self.resolve(self.likely_cause());
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

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Turns recognizer events into text buffers, GStreamer events and messages, and sample counts into timestamps.

use gst::DebugLogger;

use super::{
    captions::{Caption, Captions},
    counters::OutputMetrics,
    downstream::Downstream,
    early_output::EarlyOutput,
    enums::NemoSttOutput,
    log::CAT,
    output_queue::OutputQueue,
    payload::{AlternativeText, Format, Payload},
    settings::{CueSettings, Settings},
    timestamps::{Moment, Timestamps},
};
use nemostt::{EndReason, Event, Partial, Word};

/// Settings that stay fixed within an utterance: a change takes effect when the current one ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ActiveSettings {
    pub(super) output: NemoSttOutput,
    pub(super) lateness: gst::ClockTime,
    pub(super) cues: CueSettings,
}

impl ActiveSettings {
    pub(super) fn of(settings: &Settings) -> Self {
        Self {
            output: settings.output,
            lateness: settings.lateness(),
            cues: settings.cues,
        }
    }

    /// How long cues wait for their words.
    pub(super) fn cue_delay(&self) -> gst::ClockTime {
        match self.output {
            NemoSttOutput::Cues => self.cues.delay(),
            NemoSttOutput::Words | NemoSttOutput::Utterances => gst::ClockTime::ZERO,
        }
    }
}

/// Builds the element's output from recognizer events.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    pub(super) queue: OutputQueue,
    format: Format,
    downstream: Downstream,
    active: ActiveSettings,
    /// With `output=cues`, what builds them.
    captions: Option<Captions>,
    /// With cues, running time up to which the audio so far leaves no doubt about words, in nanoseconds.
    known_until: Option<i64>,
    /// Settings that contradict each other, which was reported.
    refused_cues: Option<CueSettings>,
    /// The warning that was given last about lines that are too long for what is downstream.
    too_long: Option<String>,
    /// Number of utterances that have ended.
    utterances: u64,
    words: u64,
    late_texts: u64,
    /// The language of the speech, as reported by the model.
    language: Option<String>,
    /// What was emitted while input was stalled.
    early: EarlyOutput,
    /// Up to where sound has been processed: the time of partials.
    processed_until: Option<Moment>,
}

impl Delivery {
    /// The settings in effect.
    pub(super) fn active(&self) -> ActiveSettings {
        self.active
    }

    /// What has been emitted since the element was started.
    pub(super) fn metrics(&self) -> OutputMetrics {
        OutputMetrics {
            words: self.words,
            utterances: self.utterances,
            late_texts: self.late_texts,
        }
    }

    /// Applies settings that have changed since the last utterance; called between utterances.
    pub(super) fn apply(&mut self, settings: &Settings) {
        let mut active = ActiveSettings::of(settings);
        if active.output == NemoSttOutput::Cues
            && let Some(contradiction) = active.cues.contradiction()
        {
            // Those before stay in effect.
            let refused = std::mem::replace(&mut active.cues, self.active.cues);
            if self.refused_cues.replace(refused) != Some(refused) {
                self.queue.warning(contradiction);
            }
        } else {
            self.refused_cues = None;
        }
        if self.active != active {
            self.active = active;
            self.apply_cues(settings);
        }
        self.queue.set_lateness(self.active.lateness);
    }

    /// Sets the format of buffers, and what takes them.
    pub(super) fn set_format(&mut self, format: Format, downstream: Downstream, settings: &Settings) {
        if downstream != self.downstream {
            self.downstream = downstream;
            self.apply_cues(settings);
        }
        self.format = format;
    }

    /// Makes captions follow the active settings. What there is of the old ones is emitted first.
    fn apply_cues(&mut self, settings: &Settings) {
        if self.active.output != NemoSttOutput::Cues {
            self.flush_cues(false, settings);
            self.captions = None;
            return;
        }
        let too_long = self.active.cues.too_many_columns(self.downstream);
        if self.too_long != too_long {
            self.too_long.clone_from(&too_long);
            if let Some(warning) = too_long {
                self.queue.warning(warning);
            }
        }
        let rules = self.active.cues.rules(self.downstream);
        if self
            .captions
            .as_ref()
            .is_some_and(|captions| *captions.rules() == rules)
        {
            return;
        }
        self.flush_cues(false, settings);
        let result = match &mut self.captions {
            Some(captions) => captions.set_rules(rules),
            None => Captions::new(rules).map(|captions| self.captions = Some(captions)),
        };
        // Not possible: properties have the ranges of the rules.
        if let Err(error) = result {
            self.queue.warning(error.to_string());
        }
    }

    /// Whether words are emitted one by one, by themselves or in cues.
    pub(super) fn is_by_word(&self) -> bool {
        self.active.output != NemoSttOutput::Utterances
    }

    /// What builds cues, and knows how far the output is.
    fn captions(&mut self) -> Option<&mut Captions> {
        let position = self.queue.position();
        let captions = self.captions.as_mut()?;
        if let Some(position) = position {
            captions.not_before(position.running());
        }
        Some(captions)
    }

    /// No more text begins before `moment`: words that were said before it are in the output or in a cue that waits.
    pub(super) fn advance(&mut self, moment: &Moment, settings: &Settings) {
        if self.captions.is_none() {
            self.queue.gap_until(moment);
            return;
        }
        self.known_until = Some(moment.running());
        self.advance_cues(moment.running(), settings);
        let stable = self.captions.as_ref().map_or(0, Captions::stable_until);
        let segment = moment.segment.clone();
        let pts = segment.at_running(stable.min(moment.running()));
        self.queue.gap_until(&Moment { pts, segment });
    }

    /// All words that begin before the running time `until`, in nanoseconds, are known: emits the cues that are due.
    pub(super) fn advance_cues(&mut self, until: i64, settings: &Settings) {
        if let Some(captions) = self.captions() {
            captions.advance(until);
            self.emit_captions(settings);
        }
    }

    /// Emits all words that wait for more; with `is_last`, none follow.
    pub(super) fn flush_cues(&mut self, is_last: bool, settings: &Settings) {
        if let Some(captions) = self.captions() {
            captions.flush(is_last);
            self.emit_captions(settings);
        }
    }

    fn emit_captions(&mut self, settings: &Settings) {
        while let Some(captions) = &mut self.captions
            && let Some(caption) = captions.next()
        {
            let rules = *captions.rules();
            let (payload, is_late) = match caption {
                Caption::Cue { payload, is_late } => (payload, is_late),
                Caption::End(ending) => {
                    self.queue.final_transcript(ending);
                    continue;
                }
            };
            if settings.post_messages {
                self.queue.message(payload.structure());
            }
            let separator = settings.separator.as_deref();
            let contents = payload.cue_bytes(self.format, separator, &rules, self.downstream);
            let is_moved = self.queue.text(&payload, contents, None);
            self.late_texts += u64::from(is_late || is_moved);
            if CAT.above_threshold(log_level(true)) {
                self.queue.log(payload);
            }
        }
    }

    /// Running time up to which words have been emitted or are in cues that wait, in nanoseconds.
    pub(super) fn words_until(&self) -> Option<i64> {
        let position = self.queue.position()?.running();
        let known = self.known_until.filter(|_| self.captions.is_some());
        Some(known.unwrap_or(position).max(position))
    }

    /// Running time at which the next cue begins, in nanoseconds, if one waits for words.
    pub(super) fn next_cue(&mut self) -> Option<i64> {
        self.captions()?.next_start()
    }

    /// Sound has been processed up to `moment`.
    pub(super) fn processed_until(&mut self, moment: Option<Moment>) {
        self.processed_until = moment;
    }

    /// Emits `event`. `next`: the sample before which no other text begins.
    pub(super) fn event(&mut self, event: Event, next: u64, timestamps: &Timestamps, settings: &Settings) {
        match event {
            Event::Word(word) if self.is_by_word() && !self.early.recognize(&word) => {
                self.words(std::slice::from_ref(&word), next, timestamps, settings);
            }
            Event::Partial(partial) => self.partial(&partial, timestamps, settings),
            Event::Utterance(utterance) => {
                let words = self.early.not_ended(&utterance);
                self.end_partials(words, timestamps);
                if !self.is_by_word() {
                    // Not of a part of it.
                    let is_whole = words.len() == utterance.words.len();
                    let alternatives = utterance.alternatives.iter().filter(|_| is_whole);
                    let alternatives = alternatives.map(Into::into).collect();
                    self.emit((words, alternatives), next, timestamps, settings);
                }
                if !words.is_empty() {
                    match &mut self.captions {
                        Some(captions) => captions.end_utterance(utterance.ending),
                        None => self.queue.final_transcript(utterance.ending),
                    }
                    self.utterances += 1;
                }
                self.apply(settings);
            }
            Event::Language(language) => self.language = Some(language),
            // This end of turn was already reported during the stall, and is now decoded again.
            Event::Turn(_) if self.early.take_turn() => {}
            Event::Turn(ending) if settings.post_messages => self.turn(ending, timestamps.at(next)),
            // Tokens, and events that a later version of the recognizer may add.
            _ => {}
        }
    }

    /// Emits an event that was decoded as if the audio ended here. It is decoded again if the missing audio still
    /// arrives.
    pub(super) fn event_early(&mut self, event: Event, next: u64, timestamps: &Timestamps, settings: &Settings) {
        match event {
            Event::Word(word) => {
                if self.is_by_word() && !self.early.has(&word) {
                    self.words(std::slice::from_ref(&word), next, timestamps, settings);
                    self.early.push(&word);
                }
            }
            Event::Utterance(utterance) => {
                let (ended, is_whole) = (utterance.clone(), !self.is_by_word());
                self.event(Event::Utterance(utterance), next, timestamps, settings);
                self.early.end_utterance(&ended, is_whole);
            }
            Event::Turn(ending) => {
                if self.early.push_turn() && settings.post_messages {
                    self.turn(ending, timestamps.at(next));
                }
            }
            event => self.event(event, next, timestamps, settings),
        }
    }

    /// The stream starts over: nothing that was emitted during a stall will be decoded again.
    pub(super) fn restart(&mut self) {
        self.early = EarlyOutput::default();
    }

    /// Discards all pending output.
    pub(super) fn flush(&mut self) {
        self.queue.flush();
        self.forget_cues();
        self.restart();
        self.language = None;
    }

    /// Ends the stream; another one may begin at any time.
    pub(super) fn end(&mut self) {
        self.queue.end();
        self.forget_cues();
    }

    fn forget_cues(&mut self) {
        self.known_until = None;
        if let Some(captions) = &mut self.captions {
            captions.reset();
        }
    }

    /// Emits final words.
    fn words(&mut self, words: &[Word], next: u64, timestamps: &Timestamps, settings: &Settings) {
        self.emit((words, Vec::new()), next, timestamps, settings);
    }

    /// Emits final words: one, or those of an utterance, with alternatives to them.
    fn emit(
        &mut self,
        (words, alternatives): (&[Word], Vec<AlternativeText>),
        next: u64,
        timestamps: &Timestamps,
        settings: &Settings,
    ) {
        let Some(mut payload) = Payload::new(words, self.utterances, true, timestamps) else {
            return;
        };
        payload.language.clone_from(&self.language);
        payload.alternatives = alternatives;
        self.words += payload.words.len() as u64;
        if let Some(captions) = self.captions() {
            captions.push(payload);
            return;
        }
        if settings.post_messages {
            self.queue.message(payload.structure());
        }
        let stays = settings.hold_until_next.then(|| timestamps.span(words[0].start, next));
        let stays = stays.flatten().map(|(_, until)| until);
        let contents = payload.bytes(self.format, settings.separator.as_deref());
        let is_late = self.queue.text(&payload, contents, stays);
        self.late_texts += u64::from(is_late);
        if CAT.above_threshold(log_level(true)) {
            self.queue.log(payload);
        }
    }

    /// Tells who takes partials that the utterance of `words` is complete.
    fn end_partials(&mut self, words: &[Word], timestamps: &Timestamps) {
        if self.queue.has_partials()
            && let Some(mut payload) = Payload::new(words, self.utterances, true, timestamps)
        {
            payload.language.clone_from(&self.language);
            self.push_partial(&payload);
        }
    }

    fn push_partial(&mut self, payload: &Payload) {
        if let Some(moment) = self.processed_until.as_ref().filter(|_| self.queue.has_partials()) {
            self.queue.partial(payload.bytes(Format::Json, None), moment);
        }
    }

    /// Emits the utterance in progress.
    fn partial(&mut self, partial: &Partial, timestamps: &Timestamps, settings: &Settings) {
        let words = self.early.not_ended(&partial.utterance);
        let stability = &partial.stability[partial.stability.len() - words.len()..];
        let payload = match (words, &self.processed_until) {
            ([], Some(moment)) => Some(Payload::empty(moment, self.utterances)),
            _ => Payload::new(words, self.utterances, false, timestamps),
        };
        let Some(payload) = payload else { return };
        let mut payload = payload.of_partial(stability, partial.is_revision);
        payload.language.clone_from(&self.language);
        if settings.post_partials {
            self.queue.message(payload.structure());
        }
        self.push_partial(&payload);
        if CAT.above_threshold(log_level(false)) {
            self.queue.log(payload);
        }
    }

    /// Queues a message that says that the model decoded the end of a turn.
    fn turn(&mut self, ending: EndReason, at: Option<Moment>) {
        let time = at.as_ref().map(|at| at.pts);
        let running = at.as_ref().and_then(|at| at.segment.to_running_time(at.pts));
        let stream = at.as_ref().and_then(|at| at.segment.to_stream_time(at.pts));
        let structure = gst::Structure::builder("nemostt-turn")
            .field("ended-by", ending.name())
            .field("time", time)
            .field("running-time", running)
            .field("stream-time", stream)
            .build();
        self.queue.message(structure);
    }

    /// Whether words were emitted during a stall.
    pub(super) fn has_emitted_early(&self) -> bool {
        self.early.is_any()
    }
}

/// The level at which texts are logged.
pub(super) fn log_level(is_final: bool) -> gst::DebugLevel {
    match is_final {
        true => gst::DebugLevel::Debug,
        false => gst::DebugLevel::Log,
    }
}

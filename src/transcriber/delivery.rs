// SPDX-License-Identifier: MIT OR Apache-2.0

//! Turns recognizer events into text buffers, GStreamer events and messages, and sample counts into timestamps.

use std::collections::VecDeque;

use gst::DebugLogger;

use super::{
    enums::NemoSttOutput,
    log::CAT,
    metrics::OutputMetrics,
    output_queue::OutputQueue,
    payload::{Format, Payload},
    settings::Settings,
    timestamps::{Moment, Timestamps},
};
use nemostt::{EndReason, Event, Utterance, Word};

/// Settings that stay fixed within an utterance: a change takes effect when the current one ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ActiveSettings {
    pub(super) output: NemoSttOutput,
    pub(super) lateness: gst::ClockTime,
}

impl ActiveSettings {
    pub(super) fn of(settings: &Settings) -> Self {
        Self {
            output: settings.output,
            lateness: settings.lateness(),
        }
    }
}

/// Builds the element's output from recognizer events.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    pub(super) queue: OutputQueue,
    pub(super) format: Format,
    active: ActiveSettings,
    /// Number of utterances that have ended.
    utterances: u64,
    words: u64,
    late_texts: u64,
    /// The language of the speech, as reported by the model.
    language: Option<String>,
    /// Words that were emitted while input was stalled. The stream decodes them again if the audio was only late.
    emitted_early: VecDeque<Word>,
    /// Words before this sample belong to the utterance that ended during the stall.
    ended_until: u64,
    /// Words before this sample were emitted as part of a whole utterance, and must not be emitted again one by one.
    emitted_until: u64,
    /// End-of-turn messages that were posted during the stall.
    turns_emitted_early: u32,
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
        self.active = ActiveSettings::of(settings);
        self.queue.set_lateness(self.active.lateness);
    }

    pub(super) fn is_by_word(&self) -> bool {
        self.active.output == NemoSttOutput::Words
    }

    /// Emits `event`. `next`: the sample before which no other text begins.
    pub(super) fn event(&mut self, event: Event, next: u64, timestamps: &Timestamps, settings: &Settings) {
        match event {
            Event::Word(word)
                if self.is_by_word() && middle(&word) >= self.emitted_until && !self.was_emitted_early(&word) =>
            {
                self.words(std::slice::from_ref(&word), true, next, timestamps, settings);
            }
            Event::Partial(partial) => {
                let words = self.not_ended(&partial);
                self.words(words, false, next, timestamps, settings);
            }
            Event::Utterance(utterance) => {
                let words = self.not_ended(&utterance);
                if !self.is_by_word() {
                    self.words(words, true, next, timestamps, settings);
                }
                if !words.is_empty() {
                    self.queue.final_transcript(utterance.ending);
                    self.utterances += 1;
                }
                self.apply(settings);
            }
            Event::Language(language) => self.language = Some(language),
            // This end of turn was already reported during the stall, and is now decoded again.
            Event::Turn(_) if self.turns_emitted_early > 0 => self.turns_emitted_early -= 1,
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
                let was_emitted_early = self.emitted_early.iter().any(|emitted| is_same(emitted, &word));
                if self.is_by_word() && !was_emitted_early {
                    self.words(std::slice::from_ref(&word), true, next, timestamps, settings);
                    self.emitted_early.push_back(word);
                }
            }
            Event::Utterance(utterance) => {
                let end = utterance.end();
                if !self.is_by_word() {
                    self.emitted_until = end;
                }
                self.event(Event::Utterance(utterance), next, timestamps, settings);
                self.ended_until = end;
            }
            Event::Turn(ending) => {
                let before = std::mem::take(&mut self.turns_emitted_early);
                if before == 0 {
                    self.event(Event::Turn(ending), next, timestamps, settings);
                }
                self.turns_emitted_early = before.max(1);
            }
            event => self.event(event, next, timestamps, settings),
        }
    }

    /// The stream starts over: nothing that was emitted during a stall will be decoded again.
    pub(super) fn restart(&mut self) {
        self.emitted_early.clear();
        self.ended_until = 0;
        self.emitted_until = 0;
        self.turns_emitted_early = 0;
    }

    /// Discards all pending output.
    pub(super) fn flush(&mut self) {
        self.queue.flush();
        self.restart();
        self.language = None;
    }

    fn words(&mut self, words: &[Word], is_final: bool, next: u64, timestamps: &Timestamps, settings: &Settings) {
        let Some(mut payload) = Payload::new(words, self.utterances, is_final, timestamps) else {
            return;
        };
        payload.language.clone_from(&self.language);
        if settings.post_messages || !is_final {
            self.queue.message(payload.structure());
        }
        if is_final {
            let stays = settings.hold_until_next.then(|| timestamps.span(words[0].start, next));
            let stays = stays.flatten().map(|(_, until)| until);
            let separator = settings.separator.as_deref();
            let is_late = self.queue.text(&payload, stays, self.format, separator);
            self.words += payload.words.len() as u64;
            self.late_texts += u64::from(is_late);
        }
        if CAT.above_threshold(log_level(is_final)) {
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

    /// The words of `utterance` that do not belong to an utterance that already ended during a stall.
    fn not_ended<'u>(&self, utterance: &'u Utterance) -> &'u [Word] {
        let words = &utterance.words;
        let first = words.partition_point(|word| middle(word) < self.ended_until);
        &words[first..]
    }

    /// Whether `word` was already emitted during a stall.
    fn was_emitted_early(&mut self, word: &Word) -> bool {
        if let Some(same) = self.emitted_early.iter().position(|emitted| has_moved(emitted, word)) {
            // Words that were emitted before it have not been decoded again.
            self.emitted_early.drain(..=same);
            return true;
        }
        while self
            .emitted_early
            .front()
            .is_some_and(|emitted| emitted.end <= word.start && !is_near(emitted, word))
        {
            self.emitted_early.pop_front();
        }
        // With all of its audio it may have become a different word. What was emitted stands, right or wrong.
        self.emitted_early.iter().any(|emitted| overlaps(emitted, word))
    }
}

/// The level at which texts are logged.
pub(super) fn log_level(is_final: bool) -> gst::DebugLevel {
    match is_final {
        true => gst::DebugLevel::Debug,
        false => gst::DebugLevel::Log,
    }
}

/// Whether `word` may be the same as `emitted`, which was decoded with less audio and so may be off by a few frames.
fn is_near(emitted: &Word, word: &Word) -> bool {
    emitted.start.abs_diff(word.start) <= 4 * (emitted.end - emitted.start)
}

fn overlaps(emitted: &Word, word: &Word) -> bool {
    (emitted.start..emitted.end).contains(&middle(word)) || (word.start..word.end).contains(&middle(emitted))
}

/// Whether `word` has the same text as `emitted` and is at most a few frames away.
fn has_moved(emitted: &Word, word: &Word) -> bool {
    emitted.text == word.text && is_near(emitted, word)
}

fn is_same(emitted: &Word, word: &Word) -> bool {
    overlaps(emitted, word) || has_moved(emitted, word)
}

fn middle(word: &Word) -> u64 {
    word.start + word.end.saturating_sub(word.start) / 2
}

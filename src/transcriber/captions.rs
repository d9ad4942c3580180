// SPDX-License-Identifier: MIT OR Apache-2.0

//! Caption cues: words wait here until they are in a complete cue. Times are running times in nanoseconds.

use std::{collections::VecDeque, sync::Arc};

use nemostt::{
    EndReason,
    cues::{CueBuilder, CueRules, RuleError},
};

use super::payload::Payload;

/// Something to emit, in order.
#[derive(Debug)]
pub(super) enum Caption {
    /// A cue, and the words in it.
    Cue(Payload),
    /// An utterance has ended, whose words have been emitted.
    End(Option<EndReason>),
}

/// Builds cues, and keeps what else there is to say about their words.
#[derive(Debug)]
pub(super) struct Captions {
    builder: CueBuilder,
    /// The words that are not in a complete cue yet.
    waiting: VecDeque<Payload>,
    /// Number of words so far, and of those in complete cues.
    words: u64,
    shown: u64,
    /// Utterances that have ended, each with the number of words before its end.
    ended: VecDeque<(u64, Option<EndReason>)>,
}

impl Captions {
    /// Captions that keep `rules`.
    ///
    /// # Errors
    /// If a rule is not within its range.
    pub(super) fn new(rules: CueRules) -> Result<Self, RuleError> {
        Ok(Self {
            builder: CueBuilder::new(rules)?,
            waiting: VecDeque::new(),
            words: 0,
            shown: 0,
            ended: VecDeque::new(),
        })
    }

    pub(super) fn rules(&self) -> &CueRules {
        self.builder.rules()
    }

    /// Adds a word.
    pub(super) fn push(&mut self, word: Payload) {
        let running = |pts| u64::try_from(word.segment.running(pts)).unwrap_or(0);
        let (start, end) = (running(word.start), running(word.end));
        self.builder.push(&word.text, start, end);
        self.waiting.push_back(word);
        self.words += 1;
    }

    /// The utterance of the words so far has ended.
    pub(super) fn end_utterance(&mut self, ending: Option<EndReason>) {
        self.builder.end_utterance();
        self.ended.push_back((self.words, ending));
    }

    /// All words that begin before `running` have been added.
    pub(super) fn advance(&mut self, running: i64) {
        self.builder.advance(u64::try_from(running).unwrap_or(0));
    }

    /// No cue begins before `running`.
    pub(super) fn not_before(&mut self, running: i64) {
        self.builder.not_before(u64::try_from(running).unwrap_or(0));
    }

    /// Completes all cues; with `is_last`, nothing follows them.
    pub(super) fn flush(&mut self, is_last: bool) {
        match is_last {
            true => self.builder.finish(),
            false => self.builder.flush(),
        }
    }

    /// Forgets all words.
    pub(super) fn reset(&mut self) {
        self.builder.reset();
        self.waiting.clear();
        self.ended.clear();
        self.shown = self.words;
    }

    /// Running time before which no further cue begins.
    pub(super) fn stable_until(&self) -> i64 {
        clamped(self.builder.stable_until())
    }

    /// Running time at which the next cue begins, if there are words for one.
    pub(super) fn next_start(&self) -> Option<i64> {
        self.builder.next_start().map(clamped)
    }

    /// What can be emitted.
    pub(super) fn next(&mut self) -> Option<Caption> {
        let is_ended = self.ended.front().is_some_and(|&(words, _)| words <= self.shown);
        if is_ended && let Some((_, ending)) = self.ended.pop_front() {
            return Some(Caption::End(ending));
        }
        let cue = self.builder.next_cue()?;
        self.shown += cue.words as u64;
        // A part of a long word completes none, but belongs to one.
        let count = cue.words.min(self.waiting.len());
        let mut payload = self.waiting.front()?.clone();
        let words: Vec<Payload> = self.waiting.drain(..count).collect();
        payload.words = words.iter().flat_map(|word| word.words_in(&payload.segment)).collect();
        if !words.is_empty() {
            payload.confidence = words.iter().map(|word| word.confidence).sum::<f32>() / words.len() as f32;
        }
        payload.text = cue.text();
        payload.start = payload.segment.at_running(clamped(cue.start));
        payload.end = payload.segment.at_running(clamped(cue.end));
        payload.cue = Some(Arc::new(cue));
        Some(Caption::Cue(payload))
    }
}

fn clamped(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

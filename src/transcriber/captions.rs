// SPDX-License-Identifier: MIT OR Apache-2.0

//! Caption cues: words wait here until they are in a complete cue. Times are running times in nanoseconds.

use std::{collections::VecDeque, sync::Arc};

use nemostt::{
    EndReason,
    cues::{CueBuilder, CueRules, RuleError},
};

use super::payload::Payload;

/// A cue that is delayed by less than this, in nanoseconds, is on time: rates other than 1 round.
const ROUNDING: u64 = 1_000;

/// Something to emit, in order.
#[derive(Debug)]
pub(super) enum Caption {
    /// A cue, and the words in it. `is_late`: its first word came too late for its time.
    Cue { payload: Payload, is_late: bool },
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

    /// Keeps `rules` from now on, for cues that follow those so far. All words must have been [flushed](Self::flush) and
    /// emitted.
    ///
    /// # Errors
    /// If a rule is not within its range.
    pub(super) fn set_rules(&mut self, rules: CueRules) -> Result<(), RuleError> {
        self.builder.set_rules(rules)
    }

    /// Adds a word.
    pub(super) fn push(&mut self, word: Payload) {
        let running = |pts| u64::try_from(word.segment.running(pts)).unwrap_or(0);
        let (start, end) = (running(word.start), running(word.end));
        // Downstream drops what begins after the stop of its segment.
        self.builder.set_stop(word.segment.stop().map(running));
        // A word without text is in no cue.
        if self.builder.push(&word.text, start, end) {
            self.waiting.push_back(word);
            self.words += 1;
        }
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
        let is_late = cue.delayed >= ROUNDING;
        payload.cue = Some(Arc::new(cue));
        Some(Caption::Cue { payload, is_late })
    }
}

fn clamped(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcriber::segment::{Segment, Time};

    const MS: gst::ClockTime = gst::ClockTime::from_mseconds(1);

    fn word(text: &str, start: u64, segment: &Arc<Segment>) -> Payload {
        Payload {
            text: text.into(),
            start: start * MS,
            end: (start + 300) * MS,
            confidence: 0.5,
            is_final: true,
            is_revision: None,
            utterance: 0,
            language: None,
            words: Vec::new(),
            segment: segment.clone(),
            cue: None,
        }
    }

    /// The texts of cues and, as `.`, the ends of utterances.
    fn emitted(captions: &mut Captions) -> Vec<String> {
        let texts = std::iter::from_fn(|| captions.next()).map(|caption| match caption {
            Caption::Cue { payload, .. } => payload.text,
            Caption::End(_) => ".".into(),
        });
        texts.collect()
    }

    #[test]
    fn words_without_text_do_not_hold_back_the_end_of_an_utterance() {
        gst::init().unwrap();
        let segment = Arc::new(Segment::default());
        let mut captions = Captions::new(CueRules::default()).unwrap();
        for text in ["", "one", "\u{7}"] {
            captions.push(word(text, 1_000, &segment));
        }
        captions.end_utterance(None);
        captions.flush(false);
        assert_eq!(emitted(&mut captions), ["one", "."]);
        captions.push(word(" ", 3_000, &segment));
        captions.end_utterance(None);
        assert_eq!(emitted(&mut captions), ["."]);
        captions.push(word("two", 4_000, &segment));
        captions.flush(true);
        assert_eq!(emitted(&mut captions), ["two"]);
    }

    #[test]
    fn cues_begin_before_the_stop_of_the_segment() {
        gst::init().unwrap();
        let mut time = Time::new();
        time.set_start(10_000 * MS);
        time.set_stop(12_000 * MS);
        let segment = Arc::new(Segment::new(time, None));
        let mut captions = Captions::new(CueRules {
            columns: 8,
            lines: 1,
            ..CueRules::default()
        })
        .unwrap();
        for (index, text) in ["three", "words", "here"].iter().enumerate() {
            captions.push(word(text, 11_000 + 300 * index as u64, &segment));
        }
        captions.flush(true);
        let mut texts = Vec::new();
        while let Some(Caption::Cue { payload, .. }) = captions.next() {
            assert!(payload.start < 12_000 * MS, "{payload:?}");
            texts.push(payload.text);
        }
        assert_eq!(texts, ["three", "words", "here"]);
    }

    #[test]
    fn a_cue_is_late_if_its_first_word_is() {
        gst::init().unwrap();
        let segment = Arc::new(Segment::default());
        let late = |not_before: i64| {
            let mut captions = Captions::new(CueRules::default()).unwrap();
            captions.not_before(not_before);
            captions.push(word("one", 1_000, &segment));
            captions.flush(false);
            matches!(captions.next(), Some(Caption::Cue { is_late: true, .. }))
        };
        assert!(!late(1_000_000_000));
        assert!(late(1_100_000_000));
    }
}

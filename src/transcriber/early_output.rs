// SPDX-License-Identifier: MIT OR Apache-2.0

//! What was emitted while input was stalled, so that it is recognized when it is decoded again.
//!
//! During a stall, the stream is decoded as if the audio ended there, and what is due is emitted. If the audio was only late, the
//! stream goes on from before, and decodes the same words again, perhaps a little later or with other texts. What was emitted
//! stands.

use std::collections::VecDeque;

use nemostt::{Utterance, Word};

/// Words of an utterance that may be later when they are decoded again: those of the last second.
const LAST_WORDS: usize = 4;

/// Words, utterances and turns that were emitted early.
#[derive(Debug, Default)]
pub(super) struct EarlyOutput {
    /// Words, as they were decoded.
    words: VecDeque<Word>,
    /// The words that the last one was made of that was recognized.
    recognized: Vec<Word>,
    /// Words before this sample belong to the utterance that ended during the stall.
    ended_until: u64,
    /// Its last words, as they were decoded: with all of their audio, they may be later.
    last: Vec<Word>,
    /// Words before this sample were emitted as part of a whole utterance, and must not be emitted again one by one.
    emitted_until: u64,
    /// End-of-turn messages.
    turns: u32,
}

impl EarlyOutput {
    /// Whether there is any.
    pub(super) fn is_any(&self) -> bool {
        !self.words.is_empty() || self.ended_until > 0
    }

    /// Whether `word` is one of those that were emitted.
    pub(super) fn has(&self, word: &Word) -> bool {
        let mut decoded = word.decoded().iter();
        decoded.any(|word| self.words.iter().any(|emitted| is_same(emitted, word)))
    }

    /// Adds a word.
    pub(super) fn push(&mut self, word: &Word) {
        self.words.extend(word.decoded().iter().cloned());
    }

    /// Adds the end of `utterance`; `is_whole`: its words were emitted with it, not one by one.
    pub(super) fn end_utterance(&mut self, utterance: &Utterance, is_whole: bool) {
        self.ended_until = utterance.end();
        let decoded = utterance
            .words
            .iter()
            .rev()
            .flat_map(|word| word.decoded().iter().rev());
        self.last = decoded.take(LAST_WORDS).cloned().collect();
        if is_whole {
            self.emitted_until = utterance.end();
        }
    }

    /// Adds the end of a turn. Returns whether it is the first one.
    pub(super) fn push_turn(&mut self) -> bool {
        let is_first = self.turns == 0;
        self.turns = 1;
        is_first
    }

    /// Whether a turn that is decoded again was emitted.
    pub(super) fn take_turn(&mut self) -> bool {
        let was_emitted = self.turns > 0;
        self.turns = self.turns.saturating_sub(1);
        was_emitted
    }

    /// The words of `utterance` that do not belong to an utterance that has ended.
    pub(super) fn not_ended<'u>(&self, utterance: &'u Utterance) -> &'u [Word] {
        let words = &utterance.words;
        let mut first = words.partition_point(|word| middle(word) < self.ended_until);
        // Those that are known to be before do not stand for a later one.
        let is_before = |emitted: &Word| {
            words[..first]
                .iter()
                .flat_map(Word::decoded)
                .any(|word| is_same(emitted, word))
        };
        let moved: Vec<&Word> = self.last.iter().filter(|emitted| !is_before(emitted)).collect();
        let has_moved_to = |word: &Word| {
            moved
                .iter()
                .any(|emitted| word.decoded().iter().any(|word| has_moved(emitted, word)))
        };
        first += words[first..]
            .iter()
            .take_while(|word| has_moved_to(word))
            .count()
            .min(moved.len());
        &words[first..]
    }

    /// Whether `word`, which is decoded again, or one that it was made of, was emitted.
    pub(super) fn recognize(&mut self, word: &Word) -> bool {
        if middle(word) < self.emitted_until {
            return true;
        }
        if !word.spoken.is_empty() && word.spoken == self.recognized {
            // Another one of those that the same words became.
            return true;
        }
        // All of them are looked for, so that none is taken for a later one.
        let known = word
            .decoded()
            .iter()
            .filter(|word| self.recognize_decoded(word))
            .count();
        if known > 0 {
            self.recognized.clone_from(&word.spoken);
        }
        known > 0
    }

    fn recognize_decoded(&mut self, word: &Word) -> bool {
        if let Some(same) = self.words.iter().position(|emitted| has_moved(emitted, word)) {
            // Words that were emitted before it have not been decoded again.
            self.words.drain(..=same);
            return true;
        }
        while self
            .words
            .front()
            .is_some_and(|emitted| emitted.end <= word.start && !is_near(emitted, word))
        {
            self.words.pop_front();
        }
        // With all of its audio it may have become a different word. What was emitted stands, right or wrong.
        self.words.iter().any(|emitted| overlaps(emitted, word))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str, start: u64) -> Word {
        Word {
            text: text.into(),
            start,
            end: start + 1000,
            confidence: 1.0,
            spoken: Vec::new(),
        }
    }

    fn made(text: &str, spoken: &[(&str, u64)]) -> Word {
        let spoken: Vec<Word> = spoken.iter().map(|&(text, start)| word(text, start)).collect();
        Word {
            start: spoken[0].start,
            end: spoken[spoken.len() - 1].end,
            spoken,
            ..word(text, 0)
        }
    }

    #[test]
    fn words_are_recognized_once_though_they_have_moved() {
        let mut early = EarlyOutput::default();
        early.push(&word("one", 0));
        early.push(&word("two", 1000));
        assert!(early.has(&word("two", 1500)));
        assert!(early.recognize(&word("one", 900)));
        // A repetition is a new word.
        assert!(!early.recognize(&word("one", 5000)));
        early.push(&word("two", 9000));
        assert!(early.recognize(&word("too", 9200)), "it is where the other one was");
        assert!(!early.recognize(&word("two", 15_000)));
    }

    #[test]
    fn words_of_an_utterance_that_ended_are_recognized_though_they_have_moved() {
        let utterance = |words: &[(&str, u64)]| Utterance {
            id: 0,
            words: words.iter().map(|&(text, start)| word(text, start)).collect(),
            ending: None,
            language: None,
            alternatives: Vec::new(),
        };
        let mut early = EarlyOutput::default();
        early.end_utterance(&utterance(&[("zero", 0), ("one", 2000), ("two", 4000)]), true);
        let rest = |words: &[(&str, u64)]| -> Vec<String> {
            let utterance = utterance(words);
            let rest = early.not_ended(&utterance).iter();
            rest.map(|word| word.text.clone()).collect()
        };
        assert_eq!(
            rest(&[("zero", 0), ("one", 2000), ("two", 4000), ("three", 9000)]),
            ["three"]
        );
        assert_eq!(
            rest(&[("zero", 0), ("one", 2000), ("two", 5000), ("three", 9000)]),
            ["three"]
        );
        assert_eq!(
            rest(&[("zero", 0), ("one", 4900), ("two", 6000), ("three", 9000)]),
            ["three"]
        );
        // A word that is said again.
        assert_eq!(
            rest(&[("zero", 0), ("one", 2000), ("two", 4000), ("two", 6000)]),
            ["two"]
        );
        assert_eq!(
            rest(&[("zero", 0), ("one", 2000), ("two", 5000), ("two", 7000)]),
            ["two"]
        );
    }

    #[test]
    fn words_are_recognized_by_what_they_were_made_of() {
        let mut early = EarlyOutput::default();
        early.push(&made("21", &[("twenty", 0), ("one", 1000)]));
        assert!(early.recognize(&word("twenty", 100)));
        assert!(early.recognize(&made("1", &[("one", 1300)])));
        // Both words that one became.
        early.push(&made("et", &[("etc", 9000)]));
        assert!(early.recognize(&made("et", &[("etc", 9000)])));
        assert!(early.recognize(&made("cetera", &[("etc", 9000)])));
        assert!(!early.recognize(&made("et", &[("etc", 20_000)])));
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The utterance in progress: its words so far, with those that are not decided.

use super::{EndReason, Event, Segmenter, Utterance};
use crate::{
    text::{TokenText, Vocabulary, Word},
    token::Token,
};

/// Tokens that were decoded and may still be replaced by others.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Undecided<'a> {
    /// The most probable ones.
    pub(crate) tokens: &'a [Token],
    /// The frame before which all are decided, unless they all are.
    pub(crate) first_frame: Option<u64>,
}

impl Segmenter {
    /// Records what is undecided, for the next partial.
    pub(super) fn note_undecided(&mut self, tokens: &[Token]) {
        let ids = tokens.iter().map(|token| token.id);
        if !ids.clone().eq(self.undecided.iter().copied()) {
            self.undecided.clear();
            self.undecided.extend(ids);
            self.changed = true;
        }
    }

    /// Ends the utterance before the word in progress if it is certain to end there, so that partials show the word.
    pub(super) fn end_before_current(&mut self) {
        if self.open.words.is_empty()
            || self.shaper.held_start().is_some()
            || self.pauses.max_utterance.is_none() && self.pauses.max_utterance_chars.is_none()
        {
            return;
        }
        let word = self.builder.partial_word().and_then(|draft| self.times.at_least(draft));
        if word.is_some_and(|word| self.open.ends_before(&word, &self.pauses, self.good_gap)) {
            self.utterance(EndReason::Limit, Vec::new());
            self.changed = true;
        }
    }

    /// Emits the utterance in progress, with the words so far, and those of `undecided` tokens, that have stayed for long enough.
    /// `repeat`: also if they are those that were emitted last.
    pub(super) fn partial(&mut self, vocabulary: &Vocabulary, undecided: &[Token], repeat: bool) {
        let mut open = self.open.clone();
        for word in self.preview(vocabulary, undecided) {
            if open.ends_before(&word, &self.pauses, self.good_gap) {
                break;
            }
            open.push(word);
        }
        let utterance = Utterance {
            id: self.id,
            words: open.words,
            ending: None,
            language: self.language.clone(),
            alternatives: Vec::new(),
        };
        let complete = self.open.words.len();
        let min_stability = self.pauses.partial_stability;
        let partial = self.partials.update(utterance, complete, min_stability, repeat);
        self.events.extend(partial.map(Event::Partial));
    }

    /// The words of the utterance in progress that have no times yet.
    fn preview(&self, vocabulary: &Vocabulary, undecided: &[Token]) -> Vec<Word> {
        if undecided.is_empty() {
            return self.shaper.preview(self.times.preview(self.builder.partial_word()));
        }
        let (mut builder, mut times) = (self.builder.clone(), self.times.clone());
        for &token in undecided {
            if vocabulary.piece(token.id).and_then(TokenText::special).is_some() {
                continue;
            }
            if let Some(word) = builder.push(vocabulary, token) {
                times.complete(word, builder.first_frame());
            }
        }
        self.shaper.preview(times.preview(builder.partial_word()))
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Capitals at the start of sentences, for models that write lower case.

use super::is_language;
use crate::{
    named::Named,
    text::{EndReason, Word},
};

/// Which words get a capital.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Capitalize {
    /// None but those that the model writes so.
    #[default]
    None,
    /// The first one of each sentence, and in English the pronoun "I". A sentence ends with a full stop, question mark or
    /// exclamation mark; if the model writes no punctuation, with the utterance, unless that was cut because of its length.
    Sentences,
}

impl Named for Capitalize {
    const NAMES: &'static [(Self, &'static str)] = &[(Self::None, "none"), (Self::Sentences, "sentence")];
}

/// Ends of sentences. Scripts whose sentences end with other characters have no capitals.
const SENTENCE_END: [char; 3] = ['.', '?', '!'];
/// Where words were masked: they are the beginning of a sentence, too.
const MASKS: [char; 2] = ['*', '\u{2026}'];

#[derive(Debug, Clone)]
pub(super) struct Capitalizer {
    is_english: bool,
    punctuates: bool,
    starts_sentence: bool,
}

impl Capitalizer {
    pub(super) fn new(language: &str, punctuates: bool, starts_sentence: bool) -> Self {
        Self {
            is_english: is_language(language, "en"),
            punctuates,
            starts_sentence,
        }
    }

    pub(super) fn starts_sentence(&self) -> bool {
        self.starts_sentence
    }

    pub(super) fn push(&mut self, mut word: Word, out: &mut Vec<Word>) {
        let is_pronoun = self.is_english && is_pronoun_i(&word.text);
        if self.starts_sentence || is_pronoun {
            let before = word.clone();
            capitalize(&mut word.text);
            if word.text != before.text && word.spoken.is_empty() {
                word.spoken.push(before);
            }
        }
        if word.text.contains(|c: char| c.is_alphanumeric() || MASKS.contains(&c)) {
            self.starts_sentence = false;
        }
        // Quotes and brackets may follow the end of a sentence.
        let end = word
            .text
            .trim_end_matches(|c: char| !c.is_alphanumeric() && !SENTENCE_END.contains(&c));
        self.starts_sentence |= end.ends_with(SENTENCE_END);
        out.push(word);
    }

    pub(super) fn end_utterance(&mut self, ending: EndReason) {
        self.starts_sentence |= ending != EndReason::Limit && !self.punctuates;
    }
}

/// Makes the first letter of `text` a capital, unless a digit precedes it.
fn capitalize(text: &mut String) {
    let first = text.char_indices().find(|(_, c)| c.is_alphanumeric());
    if let Some((at, letter)) = first.filter(|(_, c)| c.is_lowercase()) {
        let capital: String = letter.to_uppercase().collect();
        // "ß" has none of its own.
        if capital.chars().count() == 1 {
            text.replace_range(at..at + letter.len_utf8(), &capital);
        }
    }
}

/// Whether `text` is "i" or a contraction of it.
fn is_pronoun_i(text: &str) -> bool {
    let word = text.trim_matches(|c: char| !c.is_alphanumeric());
    word.strip_prefix('i')
        .is_some_and(|rest| match rest.strip_prefix(['\'', '\u{2019}']) {
            None => rest.is_empty(),
            Some(suffix) => ["m", "ll", "d", "ve"].contains(&suffix),
        })
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Changes words on their way from the model to events: numbers in digits, replacements, profanity, capitals.
//!
//! Each step takes words one by one and passes them on as soon as nothing that follows can change them. So a step holds words
//! back only while they may be the beginning of something: "twenty" until the next word shows whether it is "twenty-one". What
//! is passed on is final, however words are grouped later, so that words, utterances and cues have the same text.

mod capitalize;
mod confidence_filter;
mod edit;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzzing;
mod numbers;
mod profanity;
mod replacements;
mod rules;
mod step;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use capitalize::Capitalize;
pub use confidence_filter::{ConfidenceFilter, LowConfidence};
pub use profanity::{ProfanityAction, ProfanityFilter, ProfanityList};
pub use replacements::Replacements;

use self::step::Step;
use super::{EndReason, Word};

/// Most words that a step holds back. No number and few phrases are longer; a pattern such as `a.*` would hold all words of an
/// utterance.
const MAX_HELD: usize = 24;

/// What is done to words, in this order. By default, nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TextShaping {
    /// Masks or drops words that the model is not sure of.
    pub min_confidence: Option<ConfidenceFilter>,
    /// Writes numbers in digits (inverse text normalization), in English, Danish, Dutch, French, German, Italian, Portuguese and
    /// Spanish: "twenty one" becomes "21". Isolated numbers below ten stay words.
    pub inverse_text_normalization: bool,
    /// Replaces what matches regular expressions.
    pub replacements: Option<Arc<Replacements>>,
    /// Masks or removes the words of a list.
    pub profanity: Option<ProfanityFilter>,
    /// Writes the first word of a sentence with a capital.
    pub capitalize: Capitalize,
}

/// The [`TextShaping`] of one stream, with the words that are held back.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shaper {
    shaping: Arc<TextShaping>,
    /// Whether the model writes punctuation, so that only that ends sentences.
    punctuates: bool,
    /// Language of the speech, such as `en-US`.
    language: Arc<str>,
    /// That which the model has reported since the start of the stream.
    reported: Option<Arc<str>>,
    steps: Vec<Step>,
    /// Whether the utterance in progress began within a sentence.
    is_continued: bool,
    /// Words that begin before this sample are not joined with others.
    separate_until: u64,
}

impl Shaper {
    /// Does what `shaping` says from now on, for a model that writes punctuation or does not. The words that are held back must
    /// have been [flushed](Self::flush).
    pub(crate) fn set(&mut self, shaping: Arc<TextShaping>, punctuates: bool) {
        self.shaping = shaping;
        self.punctuates = punctuates;
        self.build();
    }

    /// Whether `shaping` is what is done.
    pub(crate) fn is(&mut self, shaping: &Arc<TextShaping>) -> bool {
        let is_same = Arc::ptr_eq(&self.shaping, shaping) || self.shaping == *shaping;
        if is_same {
            // So that the contents are compared once.
            self.shaping = shaping.clone();
        }
        is_same
    }

    fn build(&mut self) {
        let language = self.reported.as_ref().unwrap_or(&self.language);
        let starts_sentence = self.steps.iter().find_map(Step::starts_sentence);
        self.steps = step::build(
            &self.shaping,
            language,
            self.punctuates,
            starts_sentence.unwrap_or(true),
        );
    }

    /// Sets the language of the speech, unless the model reports it. The words that are held back must have been
    /// [flushed](Self::flush).
    pub(crate) fn set_language(&mut self, language: &str) {
        self.language = language.into();
        self.build();
    }

    /// Whether `language` was [set](Self::set_language).
    pub(crate) fn is_language(&self, language: &str) -> bool {
        *self.language == *language
    }

    /// The model reported the language. The words that are held back must have been [flushed](Self::flush).
    pub(crate) fn report_language(&mut self, language: &str) {
        if self.reported.as_deref() != Some(language) {
            self.reported = Some(language.into());
            self.build();
        }
    }

    /// Words that begin before `sample` are not joined with others.
    pub(crate) fn separate_until(&mut self, sample: u64) {
        self.separate_until = sample;
    }

    /// Adds a word. Returns the words that are final now.
    pub(crate) fn push(&mut self, word: Word) -> Vec<Word> {
        let is_alone = word.start < self.separate_until;
        let mut words = if is_alone { self.flush() } else { Vec::new() };
        let mut next = vec![word];
        for step in &mut self.steps {
            next = step.push_all(next);
        }
        words.append(&mut next);
        if is_alone {
            words.append(&mut self.flush());
        }
        words
    }

    /// Returns the words that are held back.
    pub(crate) fn flush(&mut self) -> Vec<Word> {
        let mut words = Vec::new();
        for step in &mut self.steps {
            words = step.push_all(words);
            step.flush(&mut words);
        }
        words
    }

    /// The utterance has ended; its words must have been [flushed](Self::flush).
    pub(crate) fn end_utterance(&mut self, ending: EndReason) {
        for step in &mut self.steps {
            step.end_utterance(ending);
        }
        self.is_continued = self.steps.iter().find_map(Step::starts_sentence) == Some(false);
    }

    /// Sample at which the first word begins that is held back.
    pub(crate) fn held_start(&self) -> Option<u64> {
        self.steps.iter().filter_map(Step::held).map(|word| word.start).min()
    }

    /// Sample at which the first word ends that is held back.
    pub(crate) fn held_end(&self) -> Option<u64> {
        self.steps.iter().filter_map(Step::held).map(|word| word.end).min()
    }

    /// The words that are held back, followed by `words`, as if the utterance ended with them.
    pub(crate) fn preview(&self, words: impl Iterator<Item = Word>) -> Vec<Word> {
        if self.steps.is_empty() {
            return words.collect();
        }
        let mut shaper = self.clone();
        let mut shaped: Vec<Word> = words.flat_map(|word| shaper.push(word)).collect();
        shaped.append(&mut shaper.flush());
        shaped
    }

    /// The text of another transcript of the utterance that ends: its words with their confidences.
    pub(crate) fn rewrite(&self, words: &[(&str, f32)]) -> String {
        if self.steps.is_empty() {
            let texts: Vec<&str> = words.iter().map(|(text, _)| *text).collect();
            return texts.join(" ");
        }
        let mut shaper = Self {
            separate_until: 0,
            ..self.clone()
        };
        let language = shaper.reported.as_ref().unwrap_or(&shaper.language);
        shaper.steps = step::build(&shaper.shaping, language, shaper.punctuates, !self.is_continued);
        let words = (0..).zip(words).map(|(index, &(text, confidence))| Word {
            text: text.into(),
            start: index,
            end: index + 1,
            confidence,
            spoken: Vec::new(),
        });
        let mut shaped: Vec<Word> = words.flat_map(|word| shaper.push(word)).collect();
        shaped.append(&mut shaper.flush());
        let texts: Vec<&str> = shaped.iter().map(|word| word.text.as_str()).collect();
        texts.join(" ")
    }

    /// Resets to the start of a stream.
    pub(crate) fn reset(&mut self) {
        self.reported = None;
        self.separate_until = 0;
        self.is_continued = false;
        self.steps.clear();
        self.build();
    }
}

/// Whether `language` is the one that `tag` names, or a variety of it: `en` names `en-US`.
fn is_language(language: &str, tag: &str) -> bool {
    language.split_at_checked(tag.len()).is_some_and(|(start, rest)| {
        start.eq_ignore_ascii_case(tag) && (rest.is_empty() || rest.starts_with(['-', '_']))
    })
}

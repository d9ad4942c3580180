// SPDX-License-Identifier: MIT OR Apache-2.0

//! One of the steps, with its state.

use super::{
    Capitalize, TextShaping, capitalize::Capitalizer, confidence_filter::ConfidenceStep, numbers::Numbers,
    rules::RuleStep,
};
use crate::text::{EndReason, Word};

/// A step with its state.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Confidence(ConfidenceStep),
    Numbers(Numbers),
    Rules(RuleStep),
    Capitalize(Capitalizer),
}

/// The steps of `shaping` in `language`. `punctuates`: the model writes punctuation. `starts_sentence`: so does the next word.
pub(super) fn build(shaping: &TextShaping, language: &str, punctuates: bool, starts_sentence: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    steps.extend(shaping.min_confidence.map(ConfidenceStep::new).map(Step::Confidence));
    if shaping.inverse_text_normalization {
        steps.extend(Numbers::new(language).map(Step::Numbers));
    }
    let replacements = shaping.replacements.iter().map(|list| list.rules().clone());
    let profanity = shaping.profanity.iter().flat_map(|filter| filter.rules(language));
    steps.extend(
        replacements
            .chain(profanity)
            .map(|rules| Step::Rules(RuleStep::new(rules))),
    );
    if shaping.capitalize == Capitalize::Sentences {
        let step = Capitalizer::new(language, punctuates, starts_sentence);
        steps.push(Step::Capitalize(step));
    }
    steps
}

impl Step {
    /// Adds a word, and the words that are final now to `out`.
    fn push(&mut self, word: Word, out: &mut Vec<Word>) {
        match self {
            Self::Confidence(step) => step.push(word, out),
            Self::Numbers(step) => step.push(word, out),
            Self::Rules(step) => step.push(word, out),
            Self::Capitalize(step) => step.push(word, out),
        }
    }

    /// Adds `words`. Returns those that are final now.
    pub(super) fn push_all(&mut self, words: Vec<Word>) -> Vec<Word> {
        let mut out = Vec::with_capacity(words.len());
        for word in words {
            self.push(word, &mut out);
        }
        out
    }

    /// Adds the words that are held back to `out`.
    pub(super) fn flush(&mut self, out: &mut Vec<Word>) {
        match self {
            Self::Numbers(step) => step.flush(out),
            Self::Rules(step) => step.flush(out),
            Self::Confidence(_) | Self::Capitalize(_) => {}
        }
    }

    /// The utterance has ended.
    pub(super) fn end_utterance(&mut self, ending: EndReason) {
        match self {
            Self::Capitalize(step) => step.end_utterance(ending),
            Self::Confidence(step) => step.end_utterance(),
            Self::Numbers(step) => step.end_utterance(),
            Self::Rules(_) => {}
        }
    }

    /// The first word that is held back.
    pub(super) fn held(&self) -> Option<&Word> {
        let held = match self {
            Self::Numbers(step) => step.held(),
            Self::Rules(step) => step.held(),
            Self::Confidence(_) | Self::Capitalize(_) => &[],
        };
        held.first()
    }

    /// Whether the next word starts a sentence, if the step knows.
    pub(super) fn starts_sentence(&self) -> Option<bool> {
        match self {
            Self::Capitalize(step) => Some(step.starts_sentence()),
            Self::Confidence(_) | Self::Numbers(_) | Self::Rules(_) => None,
        }
    }
}

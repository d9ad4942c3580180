// SPDX-License-Identifier: MIT OR Apache-2.0

//! Words that the model is not sure of.

use crate::{named::Named, text::Word};

/// Takes the place of words that are masked. It is the same in all languages.
const MASK: &str = "[\u{2026}]";

/// What happens to words of low confidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LowConfidence {
    /// `[…]` takes the place of one or several of them.
    #[default]
    Mask,
    /// They are left out.
    Drop,
}

impl Named for LowConfidence {
    const NAMES: &'static [(Self, &'static str)] = &[(Self::Mask, "mask"), (Self::Drop, "drop")];
}

/// Masks or drops words of low confidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConfidenceFilter {
    /// Words with a lower [confidence](crate::Word::confidence), 0 to 1, are not shown.
    pub min: f32,
    /// What happens to them.
    pub action: LowConfidence,
}

#[derive(Debug, Clone)]
pub(super) struct ConfidenceStep {
    filter: ConfidenceFilter,
    /// Whether the word before was masked.
    is_masked: bool,
}

impl ConfidenceStep {
    pub(super) fn new(filter: ConfidenceFilter) -> Self {
        Self {
            filter,
            is_masked: false,
        }
    }

    pub(super) fn push(&mut self, mut word: Word, out: &mut Vec<Word>) {
        let was_masked = self.is_masked;
        self.is_masked = word.confidence < self.filter.min;
        match (self.is_masked, self.filter.action) {
            (false, _) => out.push(word),
            (true, LowConfidence::Mask) if !was_masked => {
                word.spoken = word.decoded().to_vec();
                word.text = MASK.into();
                out.push(word);
            }
            (true, _) => {}
        }
    }

    /// The utterance has ended: the next one has a mask of its own.
    pub(super) fn end_utterance(&mut self) {
        self.is_masked = false;
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The best transcripts of an utterance.

use super::{
    Shaper, Vocabulary,
    words::{UntimedWord, WordBuilder},
};
use crate::token::Ranked;

/// A transcript of an utterance.
#[derive(Debug, Clone, PartialEq)]
pub struct Alternative {
    /// Its words with spaces between them.
    pub text: String,
    /// Natural logarithm of its probability, with what phrases and a language model add. Of RNN-T, alternatives are in the order
    /// of their scores per token.
    pub score: f64,
}

/// A transcript whose words may belong to several utterances.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    words: Vec<UntimedWord>,
    score: f64,
}

/// The drafts of `ranked`.
pub(super) fn drafts(vocabulary: &Vocabulary, ranked: &[Ranked]) -> Vec<Draft> {
    let draft = |ranked: &Ranked| {
        let mut builder = WordBuilder::default();
        let tokens = ranked.tokens.iter();
        let mut words: Vec<_> = tokens.filter_map(|&token| builder.push(vocabulary, token)).collect();
        words.extend(builder.flush_word());
        Draft {
            words,
            score: ranked.score,
        }
    };
    ranked.iter().map(draft).collect()
}

/// The first `count` of the transcripts in `drafts` that are different, from encoder frame `first_frame` on, as `shaper` writes
/// them.
pub(super) fn alternatives(drafts: &[Draft], first_frame: u64, count: usize, shaper: &Shaper) -> Vec<Alternative> {
    let mut found: Vec<Alternative> = Vec::new();
    for draft in drafts {
        if found.len() == count {
            break;
        }
        let words = draft.words.iter().filter(|word| word.first_frame >= first_frame);
        let text: Vec<(&str, f32)> = words.map(|word| (word.text.as_str(), word.confidence)).collect();
        let text = shaper.rewrite(&text);
        if !text.is_empty() && !found.iter().any(|other| other.text == text) {
            found.push(Alternative {
                text,
                score: draft.score,
            });
        }
    }
    found
}

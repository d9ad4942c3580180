// SPDX-License-Identifier: MIT OR Apache-2.0

//! See [`crate::fuzzing`].

use std::sync::Arc;

use super::{
    Capitalize, ConfidenceFilter, LowConfidence, MAX_HELD, ProfanityAction, ProfanityFilter, ProfanityList,
    Replacements, Shaper, TextShaping,
};
use crate::text::{EndReason, Word};

/// Most words that are shaped.
const MAX_WORDS: usize = 200;
/// Samples per word.
const WORD: u64 = 1000;

/// Languages whose numbers are known, and another one.
const LANGUAGES: [&str; 9] = ["en-US", "da", "de", "es", "fr", "it", "nl", "pt", "ja"];

/// Shapes words: a digit that selects a language, replacements, profanity and words, separated by form feeds.
pub fn text_shaping(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Some(kind) = text.chars().next() else { return };
    let mut parts = text[kind.len_utf8()..].splitn(3, '\u{c}');
    let mut next = || parts.next().unwrap_or_default();
    let (replacements, profanity, words) = (Replacements::parse(next()), ProfanityList::parse(next()), next());
    for error in [replacements.as_ref().err(), profanity.as_ref().err()]
        .into_iter()
        .flatten()
    {
        assert!(error.to_string().contains(": "), "{error}");
    }
    let kind = kind as usize;
    let shaping = TextShaping {
        min_confidence: kind.is_multiple_of(2).then_some(ConfidenceFilter {
            min: 0.3,
            action: if kind.is_multiple_of(4) {
                LowConfidence::Mask
            } else {
                LowConfidence::Drop
            },
        }),
        inverse_text_normalization: true,
        replacements: replacements.ok().map(Arc::new),
        profanity: profanity.ok().map(|list| ProfanityFilter {
            list: Arc::new(list),
            action: [
                ProfanityAction::Mask,
                ProfanityAction::MaskTail,
                ProfanityAction::Remove,
            ][kind % 3],
        }),
        capitalize: Capitalize::Sentences,
    };
    let mut shaper = Shaper::default();
    shaper.set_language(LANGUAGES[kind % LANGUAGES.len()]);
    shaper.set(Arc::new(shaping), kind.is_multiple_of(5));
    shape(&mut shaper, words);
}

fn shape(shaper: &mut Shaper, text: &str) {
    let mut end = 0;
    let mut check = |words: Vec<Word>, until: u64| {
        for word in words {
            assert!(
                word.start >= end && word.end > word.start && word.end <= until,
                "{word:?} after {end}"
            );
            assert!(!word.text.trim().is_empty(), "{word:?}");
            end = word.end;
        }
        end
    };
    for (index, text) in (0..).zip(text.split_whitespace().take(MAX_WORDS)) {
        let word = Word {
            text: text.into(),
            start: index * WORD,
            end: (index + 1) * WORD,
            confidence: [0.1, 0.5, 0.9][text.len() % 3],
            spoken: Vec::new(),
        };
        let until = word.end;
        let preview = shaper.preview(std::iter::once(word.clone()));
        assert!(preview.iter().all(|word| word.end <= until));
        let passed = check(shaper.push(word), until);
        // What is held back comes after what was passed on, and is not too much: each step holds a share.
        if let Some(start) = shaper.held_start() {
            assert!(start >= passed && until - start <= 4 * MAX_HELD as u64 * WORD);
        }
        if text.ends_with('~') {
            check(shaper.flush(), until);
            shaper.end_utterance(EndReason::Pause);
        }
    }
    check(shaper.flush(), u64::MAX);
    assert_eq!(shaper.held_start(), None);
}

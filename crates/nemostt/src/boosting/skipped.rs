// SPDX-License-Identifier: MIT OR Apache-2.0

//! Phrases that a model cannot write.

use crate::text::{MAX_CHARS, NotEncoded};

/// Phrases of a kind that are named at most.
const NAMED: usize = 10;

/// Phrases that have no tokens, by reason.
#[derive(Debug, Default)]
pub(super) struct Skipped {
    /// With characters that are no tokens.
    unknown: Names,
    /// Of which nothing is left.
    empty: Names,
    too_long: Names,
}

/// Descriptions of the first phrases, and the number of all.
#[derive(Debug, Default)]
struct Names {
    first: Vec<String>,
    count: usize,
}

impl Names {
    fn push(&mut self, name: impl FnOnce() -> String) {
        if self.count < NAMED {
            self.first.push(name());
        }
        self.count += 1;
    }

    fn describe(&self, text: impl Fn(&str) -> String) -> Option<String> {
        let mut names = self.first.join(", ");
        if self.count > NAMED {
            names += &format!(", and {} more", self.count - NAMED);
        }
        (self.count > 0).then(|| text(&names))
    }
}

impl Skipped {
    /// Adds a phrase that cannot be encoded.
    pub(super) fn push(&mut self, phrase: &str, reason: &NotEncoded) {
        match reason {
            NotEncoded::Unknown(chars) => self.unknown.push(|| {
                let chars: Vec<String> = chars.iter().map(|c| format!("'{c}'")).collect();
                format!("{phrase:?} ({})", chars.join(", "))
            }),
            NotEncoded::TooLong => self.too_long.push(|| format!("{phrase:?}")),
        }
    }

    /// Adds a phrase that has no tokens.
    pub(super) fn push_empty(&mut self, phrase: &str) {
        self.empty.push(|| format!("{phrase:?}"));
    }

    /// Which phrases, why and what to do about it; `None` if there are none.
    pub(super) fn describe(&self) -> Option<String> {
        let reasons = [
            self.unknown.describe(|names| {
                format!(
                    "the model has no tokens for some characters of {names}; spell them as the model writes text, or remove them"
                )
            }),
            self.empty.describe(|names| {
                format!("nothing is left of {names} once the model's tokenizer has normalized it; remove it")
            }),
            self.too_long.describe(|names| {
                format!(
                    "the model's tokenizer makes more than {MAX_CHARS} characters of {names}, expected at most {MAX_CHARS}; shorten \
                     it"
                )
            }),
        ];
        let reasons: Vec<String> = reasons.into_iter().flatten().collect();
        (!reasons.is_empty()).then(|| reasons.join(". Also, "))
    }
}

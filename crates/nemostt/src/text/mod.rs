// SPDX-License-Identifier: MIT OR Apache-2.0

//! Turns tokens into words and utterances, and phrases into tokens.

mod alternatives;
mod events;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod hf_json;
mod partials;
#[cfg(test)]
mod property_tests;
mod segmenter;
mod sentencepiece;
mod shaping;
mod times;
mod tokenize;
mod tokenizer;
mod words;

pub use alternatives::Alternative;
pub use events::{EndReason, EndpointConfig, Event, Utterance};
pub use partials::Partial;
pub(crate) use segmenter::{Segmenter, Undecided};
pub(crate) use shaping::Shaper;
pub use shaping::{
    Capitalize, ConfidenceFilter, LowConfidence, ProfanityAction, ProfanityFilter, ProfanityList, Replacements,
    TextShaping,
};
pub(crate) use tokenize::{MAX_CHARS, NotEncoded, Tokenizer};
pub use tokenizer::{SpecialToken, TokenText, Vocabulary};
pub use words::Word;

// SPDX-License-Identifier: MIT OR Apache-2.0

//! From labels to words.

#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod properties;
mod sentencepiece;
mod times;
mod tokenizer_json;
mod transcript;
mod vocabulary;
mod words;

pub(crate) use transcript::Transcript;
pub use transcript::{Ending, Event, Pauses, Utterance};
pub use vocabulary::{Mark, Piece, Vocabulary};
pub use words::Word;

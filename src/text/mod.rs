// SPDX-License-Identifier: MIT OR Apache-2.0

//! From labels to words.

#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod hf_json;
#[cfg(test)]
mod properties;
mod segmenter;
mod sentencepiece;
mod times;
mod tokenizer;
mod words;

pub(crate) use segmenter::Transcript;
pub use segmenter::{Ending, Event, Pauses, Utterance};
pub use tokenizer::{Mark, Piece, Vocabulary};
pub use words::Word;

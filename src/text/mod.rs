// SPDX-License-Identifier: MIT OR Apache-2.0

//! From labels to words.

mod sentencepiece;
mod transcript;
mod vocabulary;
mod words;

pub(crate) use transcript::Transcript;
pub use transcript::{Event, Pauses, Utterance};
pub use vocabulary::{Piece, Vocabulary};
pub use words::{Word, WordBuilder};

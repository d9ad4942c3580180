// SPDX-License-Identifier: MIT OR Apache-2.0

//! From labels to words.

mod sentencepiece;
mod vocabulary;
mod words;

pub use vocabulary::{Piece, Vocabulary};
pub use words::{Word, WordBuilder};

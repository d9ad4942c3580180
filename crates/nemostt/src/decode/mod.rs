// SPDX-License-Identifier: MIT OR Apache-2.0

//! Greedy decoding: scores of a chunk in, labels with their frame and probability out.

mod argmax;
mod ctc;
mod rnnt;

pub(crate) use ctc::{Ctc, CtcSnapshot};
pub(crate) use rnnt::{Rnnt, TransducerScorer};

/// One decoded label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Token {
    /// Its id: its line in the vocabulary.
    pub id: usize,
    /// The encoder frame it was decided in, counted from the start of the stream.
    pub frame: u64,
    /// Natural logarithm of its probability.
    pub log_prob: f32,
}

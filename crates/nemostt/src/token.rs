// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tokens, which decoders emit and words consist of.

/// One decoded token; never blank.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Token {
    /// Its id: its index in the vocabulary.
    pub id: usize,
    /// Encoder frame in which it was emitted, counted from the start of the stream.
    pub frame: u64,
    /// Natural logarithm of its probability.
    pub log_prob: f32,
}

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
    /// How sure the model is of it, 0 to 1, as [`ConfidenceConfig`](crate::ConfidenceConfig) says.
    pub confidence: f32,
}

#[cfg(any(test, feature = "fuzzing"))]
impl Token {
    /// A token whose confidence is its probability.
    pub(crate) fn of_log_prob(id: usize, frame: u64, log_prob: f32) -> Self {
        Self {
            id,
            frame,
            log_prob,
            confidence: log_prob.exp(),
        }
    }
}

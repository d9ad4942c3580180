// SPDX-License-Identifier: MIT OR Apache-2.0

//! Beam search: several hypotheses are followed at the same time, and the best one of an utterance is its transcript.
//!
//! Both searches are those of NeMo 2.7.3 and advance frame by frame, so that the result does not depend on how the encoder's
//! output is cut into chunks.

mod ctc;
mod fusion;
mod hypotheses;
mod networks;
mod rnnt;
#[cfg(test)]
mod tests;
mod top_k;

pub(crate) use ctc::CtcBeam;
pub(crate) use fusion::Fusion;
pub(crate) use networks::PrefixScorer;
use rnnt::PredictionNetwork;
pub(crate) use rnnt::RnntBeam;

use crate::token::{Ranked, Token};

/// Where decided tokens go.
pub(crate) trait TokenSink {
    /// A decided token. Frames never decrease.
    fn token(&mut self, token: Token);
    /// An utterance ends with the tokens so far: its best transcripts, the best one first. They may be of the same text, and
    /// there are more of them than were asked for.
    fn ranked(&mut self, ranked: Vec<Ranked>);
}

/// When the best hypothesis is committed although others are left. All limits are in encoder frames.
#[derive(Clone, Copy, Default)]
pub(crate) struct CommitPolicy<'a> {
    /// Frames without a token.
    pub(crate) word: Option<u64>,
    /// Frames without a token after which the utterance ends.
    pub(crate) utterance: Option<u64>,
    /// Age of the first token that is not decided.
    pub(crate) oldest: Option<u64>,
    /// The same while the best hypothesis has no tokens since the last utterance.
    pub(crate) idle: Option<u64>,
    /// Whether a token ends the turn, and the utterance with it.
    pub(crate) ends_turn: Option<&'a dyn Fn(usize) -> bool>,
}

impl CommitPolicy<'_> {
    fn ends_turn(&self, tokens: &[Token]) -> bool {
        let ends = self.ends_turn;
        ends.is_some_and(|ends| tokens.iter().any(|token| ends(token.id)))
    }
}

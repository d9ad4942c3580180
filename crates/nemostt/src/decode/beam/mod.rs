// SPDX-License-Identifier: MIT OR Apache-2.0

//! Beam search: several hypotheses are followed at the same time, and the best one of an utterance is its transcript.
//!
//! Both searches are those of NeMo 2.7.3 and advance frame by frame, so that the result does not depend on how the encoder's
//! output is cut into chunks.
//!
//! What is decided when, where pauses are configured:
//!
//! | event | who decides | limit |
//! |---|---|---|
//! | all hypotheses have a token | `Beam::settle`: it is passed on | none |
//! | the best one ends with an end-of-turn token | `Beam::advance`: the utterance ends after it; the segmenter sees the token | [`CommitPolicy::ends_turn`], also without pauses |
//! | the best one has had no token | `Beam::advance`: the utterance ends, [`TokenSink::pause`] tells the segmenter, which looks for no pauses itself | [`CommitPolicy::utterance`] |
//! | the best one has had no token | `Beam::advance`: the best one is committed; the segmenter completes the word | [`CommitPolicy::word`] |
//! | a token is undecided | `Beam::advance`: the best one is committed | [`CommitPolicy::oldest`] |
//! | the same, and nothing was said since the last utterance | the same | [`CommitPolicy::idle`] |
//! | it is undecided how a word goes on | the same; the segmenter emits the word in parts | [`CommitPolicy::longest_word`] |
//! | a hypothesis has too many undecided tokens | the same | `MAX_UNDECIDED`, also without pauses |
//! | an utterance is too long | the segmenter cuts it; [`CtcBeam::forget_before`] lets the beam forget what lies before | `EndpointConfig::max_utterance`, `max_utterance_chars` |
//! | the stream ends, or the application asks for the end | `finish` of the beam, then of the segmenter | none |

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

use crate::{
    confidence::Aggregate,
    token::{Ranked, Token},
};

/// Where decided tokens go.
pub(crate) trait TokenSink {
    /// A decided token. Frames never decrease.
    fn token(&mut self, token: Token);
    /// The confidences of frames that repeat token `id`, the last one that was passed on.
    fn repeat(&mut self, id: usize, frames: &Aggregate);
    /// An utterance ends with the tokens so far: its best transcripts, the best one first. They may be of the same text, and
    /// there are more of them than were asked for.
    fn ranked(&mut self, ranked: Vec<Ranked>);
    /// The utterance has ended in a pause, which lasts until frame `frame` at least. All its tokens were passed on.
    fn pause(&mut self, frame: u64);
    /// Frame in which the word of the last tokens begins, if token `id` continues it.
    fn word_continued_by(&self, id: usize) -> Option<u64>;
}

/// When the best hypothesis is committed although others are left. All limits are in encoder frames; the module's documentation
/// says who acts on which.
#[derive(Clone, Copy, Default)]
pub(crate) struct CommitPolicy<'a> {
    /// Frames without a token after which the last word is complete.
    pub(crate) word: Option<u64>,
    /// Frames without a token after which the utterance ends.
    pub(crate) utterance: Option<u64>,
    /// Age of the first token that is not decided.
    pub(crate) oldest: Option<u64>,
    /// The same while the best hypothesis has no tokens since the last utterance. `None`: there are no pauses, and scores are those of
    /// NeMo also where there is silence.
    pub(crate) idle: Option<u64>,
    /// Age of a word, if it is undecided how it goes on.
    pub(crate) longest_word: Option<u64>,
    /// Whether a token ends the turn, and the utterance with it.
    pub(crate) ends_turn: Option<&'a dyn Fn(usize) -> bool>,
}

impl CommitPolicy<'_> {
    fn ends_turn(&self, tokens: &[Token]) -> bool {
        let ends = self.ends_turn;
        ends.is_some_and(|ends| tokens.iter().any(|token| ends(token.id)))
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! From the decoder to the segmenter.

use crate::{
    confidence::Aggregate,
    decode::{BeamConfig, TokenSink},
    text::{Segmenter, SpecialToken, TokenText, Vocabulary},
    token::{Ranked, Token},
};

/// Passes decided tokens on.
pub(super) struct Sink<'a> {
    segmenter: &'a mut Segmenter,
    vocabulary: &'a Vocabulary,
    n_best: usize,
}

impl<'a> Sink<'a> {
    /// For greedy decoding or a `beam`, which finds the pauses between utterances itself.
    pub(super) fn new(segmenter: &'a mut Segmenter, vocabulary: &'a Vocabulary, beam: Option<&BeamConfig>) -> Self {
        segmenter.set_finds_pauses(beam.is_none());
        Self {
            segmenter,
            vocabulary,
            n_best: beam.map_or(0, |beam| beam.n_best),
        }
    }

    /// Frame in which the utterance in progress begins; `u64::MAX` if there is none. Times of words lie in the frames of their first
    /// tokens, or before.
    pub(super) fn utterance_start(&self, frame_samples: u64) -> u64 {
        let start = self.segmenter.utterance_start();
        start.map_or(u64::MAX, |sample| sample / frame_samples.max(1))
    }
}

impl TokenSink for Sink<'_> {
    fn token(&mut self, token: Token) {
        self.segmenter.token(self.vocabulary, token);
    }

    fn repeat(&mut self, id: usize, frames: &Aggregate) {
        self.segmenter.repeat(id, frames);
    }

    fn ranked(&mut self, ranked: Vec<Ranked>) {
        self.segmenter.set_ranked(self.vocabulary, &ranked, self.n_best);
    }

    fn pause(&mut self, frame: u64) {
        self.segmenter.pause_before(frame);
    }

    fn word_continued_by(&self, id: usize) -> Option<u64> {
        self.segmenter.word_continued_by(self.vocabulary, id)
    }
}

/// Whether token `id` ends an utterance.
pub(super) fn ends_turn(vocabulary: &Vocabulary, id: usize) -> bool {
    let special = vocabulary.piece(id).and_then(TokenText::special);
    matches!(
        special,
        Some(SpecialToken::EndOfUtterance | SpecialToken::EndOfBackchannel)
    )
}

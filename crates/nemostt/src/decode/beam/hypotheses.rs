// SPDX-License-Identifier: MIT OR Apache-2.0

//! The hypotheses of a beam, and which of their tokens are decided.
//!
//! A token is decided when all hypotheses have it: whatever happens, it will be in the result. Where a caller cannot wait for
//! that, the best hypothesis is [committed](Beam::commit): those that disagree with it are dropped.

use super::{
    CommitPolicy, TokenSink,
    fusion::{Fusion, FusionState},
};
use crate::{
    confidence::Aggregate,
    token::{Ranked, Token},
};

/// What a hypothesis has in both searches; `S` is what it has in one.
#[derive(Debug, Clone)]
pub(super) struct Hypothesis<S> {
    /// Sum of log-probabilities, and of the scores of phrases and the language model.
    pub(super) score: f64,
    /// Tokens since the start of the utterance.
    pub(super) length: usize,
    /// Hash of all its tokens.
    pub(super) hash: u64,
    /// Its tokens that are not decided.
    pub(super) pending: Vec<Token>,
    /// Confidences of the frames that repeat the last decided token, then those of each of `pending`, as far as there are any.
    pub(super) repeats: Vec<Aggregate>,
    pub(super) fusion: FusionState,
    pub(super) own: S,
}

impl<S> Hypothesis<S> {
    /// The hypothesis of no tokens.
    pub(super) fn empty(fusion: FusionState, own: S) -> Self {
        Self {
            score: 0.0,
            length: 0,
            hash: 0,
            pending: Vec::new(),
            repeats: Vec::new(),
            fusion,
            own,
        }
    }

    /// Its tokens with `token` after them, and everything else replaced.
    pub(super) fn extended<T>(&self, token: Token, score: f64, fusion: FusionState, own: T) -> Hypothesis<T> {
        let mut pending = Vec::with_capacity(self.pending.len() + 1);
        pending.extend_from_slice(&self.pending);
        pending.push(token);
        Hypothesis {
            score,
            length: self.length + 1,
            hash: extend_hash(self.hash, token.id),
            pending,
            repeats: self.repeats.clone(),
            fusion,
            own,
        }
    }

    /// Adds the confidence of a frame that repeats its last token.
    pub(super) fn repeat(&mut self, confidence: f32) {
        let last = self.pending.len();
        if self.repeats.len() <= last {
            self.repeats.resize(last + 1, Aggregate::default());
        }
        self.repeats[last].push(confidence);
    }
}

/// The hash of a hypothesis after one more token: NeMo's `hash_text`, by which it tells hypotheses apart.
pub(super) fn extend_hash(hash: u64, token: usize) -> u64 {
    hash.wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1)
        .wrapping_add(token as u64)
}

/// What the end of an utterance does to scores.
pub(super) struct UtteranceEnd<'a> {
    /// The state with which the next one begins.
    start: FusionState,
    /// What adds to the score, if anything does.
    fusion: Option<&'a Fusion>,
}

impl<'a> UtteranceEnd<'a> {
    /// NeMo's CTC search adds the score of the end of a sentence.
    pub(super) fn of(fusion: &'a Fusion) -> Self {
        Self {
            start: fusion.start(),
            fusion: Some(fusion),
        }
    }

    /// NeMo's RNN-T search adds nothing.
    pub(super) fn without_score(fusion: &Fusion) -> Self {
        Self {
            start: fusion.start(),
            fusion: None,
        }
    }
}

/// Hypotheses, and what they have in common.
#[derive(Debug, Clone)]
pub(super) struct Beam<S> {
    /// At least one.
    pub(super) hypotheses: Vec<Hypothesis<S>>,
    /// Most hypotheses that are kept.
    pub(super) size: usize,
    /// Whether the best hypothesis is the one with the highest score per token: NeMo's `score_norm`.
    pub(super) normalize: bool,
    /// Transcripts to report for an utterance.
    n_best: usize,
    /// Decided tokens of the utterance, if transcripts are reported.
    decided: Vec<Token>,
    /// The last decided token of the stream.
    last: Option<Token>,
    /// Whether the utterance has decided tokens.
    has_decided: bool,
    /// The best score in silence, if that goes on.
    score_in_silence: Option<f64>,
}

impl<S> Beam<S> {
    pub(super) fn new(size: usize, n_best: usize, normalize: bool, first: Hypothesis<S>) -> Self {
        Self {
            hypotheses: vec![first],
            size,
            normalize,
            n_best,
            decided: Vec::new(),
            last: None,
            has_decided: false,
            score_in_silence: None,
        }
    }

    /// By what hypotheses are compared where one is the result.
    fn rank(&self, hypothesis: &Hypothesis<S>) -> f64 {
        match self.normalize {
            // NeMo counts the start of the sequence.
            true => hypothesis.score / (hypothesis.length + 1) as f64,
            false => hypothesis.score,
        }
    }

    /// Indices of the hypotheses, the best one first.
    fn ranking(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.hypotheses.len()).collect();
        let rank = |index: &usize| self.rank(&self.hypotheses[*index]);
        order.sort_by(|a, b| rank(b).total_cmp(&rank(a)));
        order
    }

    fn best(&self) -> usize {
        let ranks = self.hypotheses.iter().map(|hypothesis| self.rank(hypothesis));
        let best = ranks.enumerate().reduce(|best, other| match other.1 > best.1 {
            true => other,
            false => best,
        });
        best.map_or(0, |(index, _)| index)
    }

    /// No hypothesis is within a phrase any more.
    pub(super) fn leave_phrases(&mut self) {
        for hypothesis in &mut self.hypotheses {
            hypothesis.fusion = hypothesis.fusion.without_phrase();
        }
    }

    /// Tokens of the best hypothesis that are not decided.
    pub(super) fn undecided(&self) -> &[Token] {
        &self.hypotheses[self.best()].pending
    }

    /// The frame before which all tokens are decided, unless they all are.
    pub(super) fn first_undecided_frame(&self) -> Option<u64> {
        let first = self
            .hypotheses
            .iter()
            .filter_map(|hypothesis| hypothesis.pending.first());
        let first = first.map(|token| token.frame).min()?;
        Some(first.max(self.last_frame().unwrap_or(0)))
    }

    /// Frame of the last decided token.
    fn last_frame(&self) -> Option<u64> {
        self.last.map(|token| token.frame)
    }

    /// Passes tokens to `sink` that all hypotheses have, and what repeats them.
    pub(super) fn settle(&mut self, sink: &mut impl TokenSink) {
        let mut common = self.hypotheses[0].pending.len();
        for other in &self.hypotheses[1..] {
            let pairs = self.hypotheses[0].pending.iter().zip(&other.pending);
            common = common.min(pairs.take_while(|(a, b)| a.id == b.id).count());
        }
        let best = self.best();
        self.pass_on_repeats((best, 0), sink);
        for index in 0..common {
            let token = self.hypotheses[best].pending[index];
            // Hypotheses may have emitted the same token in different frames, and another one may have been the best before.
            let frame = token.frame.max(self.last_frame().unwrap_or(0));
            let token = Token { frame, ..token };
            self.last = Some(token);
            self.has_decided = true;
            if self.n_best > 0 {
                self.decided.push(token);
            }
            sink.token(token);
            self.pass_on_repeats((best, index + 1), sink);
        }
        for Hypothesis { pending, repeats, .. } in &mut self.hypotheses {
            pending.drain(..common);
            repeats.drain(..common.min(repeats.len()));
            // They were passed on.
            repeats
                .iter_mut()
                .take(1)
                .for_each(|frames| *frames = Aggregate::default());
        }
    }

    /// Passes on what repeats the last decided token in the hypothesis at `best`.
    fn pass_on_repeats(&self, (best, index): (usize, usize), sink: &mut impl TokenSink) {
        let frames = self.hypotheses[best].repeats.get(index);
        if let Some((frames, last)) = frames.filter(|frames| !frames.is_empty()).zip(self.last) {
            sink.repeat(last.id, frames);
        }
    }

    /// Forgets decided tokens before frame `frame`, which are not of the utterance any more. One is kept, so that those that
    /// continue its word are not taken for a word of their own.
    pub(super) fn forget_before(&mut self, frame: u64) {
        let before = self.decided.partition_point(|token| token.frame < frame);
        self.decided.drain(..before.saturating_sub(1));
    }

    /// Takes the cost of silence from all scores, if frame `frames - 1` is silent: no tokens are undecided in the hypothesis with the
    /// best score, and there are none in the utterance, or none for `limit` frames. Otherwise a hypothesis that adds a token would
    /// rank higher where the score counts per token, because it shares this cost among more of them.
    fn skip_silence(&mut self, frames: u64, limit: u64) {
        let best = self.hypotheses.iter().max_by(|a, b| a.score.total_cmp(&b.score));
        let last = self.last_frame().filter(|_| self.has_decided);
        let is_silent = last.is_none_or(|last| frames.saturating_sub(last + 1) >= limit);
        let Some(best) = best.filter(|best| best.pending.is_empty() && best.score.is_finite() && is_silent) else {
            self.score_in_silence = None;
            return;
        };
        let score = if last.is_none() {
            0.0
        } else {
            self.score_in_silence.unwrap_or(best.score)
        };
        self.score_in_silence = Some(score);
        let cost = best.score - score;
        for hypothesis in &mut self.hypotheses {
            hypothesis.score -= cost;
        }
    }

    /// Decides on the best hypothesis: those with other tokens are dropped.
    pub(super) fn commit(&mut self, sink: &mut impl TokenSink) {
        let best = self.best();
        let tokens: Vec<usize> = self.hypotheses[best].pending.iter().map(|token| token.id).collect();
        self.hypotheses.retain(|hypothesis| {
            let ids = hypothesis.pending.iter().map(|token| token.id);
            ids.eq(tokens.iter().copied())
        });
        self.settle(sink);
    }

    /// The transcripts of the utterance, the best one first; none if that is empty.
    fn ranked(&self) -> Vec<Ranked> {
        let ranked = |index: usize| {
            let hypothesis = &self.hypotheses[index];
            Ranked {
                tokens: [&self.decided[..], &hypothesis.pending].concat(),
                score: hypothesis.score,
            }
        };
        let mut all: Vec<Ranked> = self.ranking().into_iter().map(ranked).collect();
        if all.first().is_some_and(|best| best.tokens.is_empty()) {
            all.clear();
        }
        all.retain(|ranked| !ranked.tokens.is_empty());
        all
    }

    /// Decides on the best hypothesis and reports the best ones. The next utterance begins with a score of 0.
    pub(super) fn end_utterance(&mut self, end: &UtteranceEnd<'_>, sink: &mut impl TokenSink) {
        if let Some(fusion) = end.fusion {
            for hypothesis in &mut self.hypotheses {
                hypothesis.score += fusion.end(hypothesis.fusion);
            }
        }
        if self.n_best > 0 {
            sink.ranked(self.ranked());
        }
        let best = self.best();
        self.hypotheses.swap(0, best);
        self.hypotheses.truncate(1);
        self.settle(sink);
        self.decided.clear();
        self.has_decided = false;
        self.score_in_silence = None;
        for hypothesis in &mut self.hypotheses {
            (hypothesis.score, hypothesis.length, hypothesis.fusion) = (0.0, 0, end.start);
        }
    }

    /// Passes on what is decided when the frames before `frames` have been decoded.
    pub(super) fn advance(
        &mut self,
        frames: u64,
        policy: &CommitPolicy<'_>,
        end: &UtteranceEnd<'_>,
        sink: &mut impl TokenSink,
    ) {
        if let Some(limit) = policy.idle {
            self.skip_silence(frames, limit);
        }
        // Before it is decided: the utterance ends with it.
        if policy.ends_turn(self.undecided()) {
            self.end_utterance(end, sink);
            return;
        }
        self.settle(sink);
        let undecided = self.undecided();
        let last = undecided.last().map(|token| token.frame);
        let last = last.max(self.last_frame().filter(|_| self.has_decided));
        let silent = last.map(|last| frames.saturating_sub(last + 1));
        let reaches = |limit: Option<u64>| silent.zip(limit).is_some_and(|(silent, limit)| silent >= limit);
        if reaches(policy.utterance) {
            self.end_utterance(end, sink);
            sink.pause(frames);
            return;
        }
        let Some(first) = self.first_undecided_frame() else {
            return;
        };
        // Tokens after the pause begin another word. They do not hold back the one before it.
        let is_in_pause = last.zip(policy.word).is_some_and(|(last, word)| first <= last + word);
        let is_idle = undecided.is_empty() && !self.has_decided;
        let oldest = if is_idle { policy.idle } else { policy.oldest };
        let is_old = oldest.is_some_and(|limit| frames.saturating_sub(first) >= limit);
        // Before the word is split where hypotheses differ in how it goes on.
        let next = self.hypotheses.iter().filter_map(|one| one.pending.first());
        let begun = next.filter_map(|token| sink.word_continued_by(token.id)).min();
        let is_long = begun
            .zip(policy.longest_word)
            .is_some_and(|(begun, limit)| frames.saturating_sub(begun) >= limit);
        // Not only the undecided tokens of the best hypothesis take memory.
        let is_full = self.hypotheses.iter().any(|one| one.pending.len() >= MAX_UNDECIDED);
        if is_full || is_old || is_long || is_in_pause && reaches(policy.word) {
            self.commit(sink);
        }
    }
}

/// Undecided tokens at which the best hypothesis is committed in any case, to bound the memory that a stream takes: some
/// minutes of speech in which a model has no preference. NeMo has no such limit.
const MAX_UNDECIDED: usize = 2_000;

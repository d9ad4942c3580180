// SPDX-License-Identifier: MIT OR Apache-2.0

//! Beam search for CTC, as NeMo's `beam_batch` (`BatchedBeamCTCComputer`) with its default parameters.
//!
//! In each frame, every hypothesis is continued with blank, its last label or another token, and the best of all are kept.
//! Hypotheses with the same tokens and the same last label are one; its score is that of the better path, not the sum.

use super::{
    CommitPolicy, TokenSink,
    fusion::{Fusion, FusionState},
    hypotheses::{Beam, Hypothesis, UtteranceEnd},
    top_k::top_k,
};
use crate::{boosting::BoostingTree, confidence::ConfidenceConfig, token::Token};

/// How much worse than the best hypothesis another one may be (`beam_threshold`).
const THRESHOLD: f64 = 20.0;

/// The label of the previous frame, blank or a token; `None` at the start of a stream.
type LastLabel = Option<usize>;

/// Beam search with its hypotheses.
#[derive(Debug, Clone)]
pub(crate) struct CtcBeam {
    beam: Beam<LastLabel>,
    blank: usize,
    fusion: Fusion,
    /// How the confidence of tokens is computed.
    pub(crate) confidence: ConfidenceConfig,
    scratch: Scratch,
}

#[derive(Debug, Clone, Default)]
struct Scratch {
    /// What each token adds.
    scores: Vec<f32>,
    top: Vec<(usize, f32)>,
    added: Vec<f32>,
    language_model: Vec<f32>,
    candidates: Vec<Candidate>,
}

/// A continuation of the hypothesis at `index`.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    index: usize,
    label: usize,
    score: f64,
}

impl CtcBeam {
    /// A search at the start of a stream, of at most `size` hypotheses.
    pub(crate) fn new((size, n_best): (usize, usize), blank: usize, fusion: Fusion) -> Self {
        let first = Hypothesis::empty(fusion.start(), None);
        Self {
            beam: Beam::new(size, n_best, false, first),
            blank,
            fusion,
            confidence: ConfidenceConfig::default(),
            scratch: Scratch::default(),
        }
    }

    /// Replaces the phrases. A phrase that has begun does not count.
    pub(crate) fn set_tree(&mut self, tree: Option<BoostingTree>) {
        self.fusion.tree = tree;
        self.beam.leave_phrases();
    }

    /// Tokens of the best hypothesis that are not decided.
    pub(crate) fn undecided(&self) -> &[Token] {
        self.beam.undecided()
    }

    /// The frame before which all tokens are decided, unless they all are.
    pub(crate) fn first_undecided_frame(&self) -> Option<u64> {
        self.beam.first_undecided_frame()
    }

    /// Decodes the first `frames` rows of `log_probs`, \[T, blank + 1\]; the first row is encoder frame `first_frame`.
    pub(crate) fn decode(
        &mut self,
        log_probs: &[f32],
        frames: usize,
        first_frame: u64,
        policy: &CommitPolicy<'_>,
        sink: &mut impl TokenSink,
    ) {
        for (row, number) in log_probs.chunks_exact(self.blank + 1).take(frames).zip(first_frame..) {
            self.frame(row, number);
            let end = UtteranceEnd::of(&self.fusion);
            self.beam.advance(number + 1, policy, &end, sink);
        }
    }

    /// Forgets decided tokens before frame `frame`, which belong to an utterance that was cut off.
    pub(crate) fn forget_before(&mut self, frame: u64) {
        self.beam.forget_before(frame);
    }

    /// Ends the utterance.
    pub(crate) fn finish(&mut self, sink: &mut impl TokenSink) {
        self.beam.end_utterance(&UtteranceEnd::of(&self.fusion), sink);
    }

    fn frame(&mut self, row: &[f32], number: u64) {
        self.find_candidates(row);
        let Scratch { candidates, .. } = &self.scratch;
        let mut next: Vec<Hypothesis<LastLabel>> = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            let continued = self.continued(candidate, row, number);
            // `recombine_hyps_`: they come with the best one first.
            let is_same = |other: &Hypothesis<LastLabel>| {
                (other.hash, other.length, other.own) == (continued.hash, continued.length, continued.own)
            };
            if self.beam.size == 1 || !next.iter().any(is_same) {
                next.push(continued);
            }
        }
        // Otherwise no score is a number: the model is corrupt.
        if !next.is_empty() {
            self.beam.hypotheses = next;
        }
    }

    /// The continuations of all hypotheses, the best ones first.
    fn find_candidates(&mut self, row: &[f32]) {
        let Scratch {
            scores,
            top,
            added,
            language_model,
            candidates,
        } = &mut self.scratch;
        candidates.clear();
        for (index, hypothesis) in self.beam.hypotheses.iter().enumerate() {
            let scores: &[f32] = match self.fusion.is_none() {
                true => row,
                false => {
                    added.resize(self.blank, 0.0);
                    self.fusion.scores(hypothesis.fusion, added, language_model);
                    if let Some(repeated) = hypothesis.own.and_then(|last| added.get_mut(last)) {
                        *repeated = 0.0;
                    }
                    scores.clear();
                    scores.extend_from_slice(row);
                    scores
                        .iter_mut()
                        .zip(added.iter())
                        .for_each(|(score, added)| *score += added);
                    scores
                }
            };
            top_k(scores, self.beam.size, top);
            candidates.extend(top.iter().map(|&(label, score)| Candidate {
                index,
                label,
                score: hypothesis.score + f64::from(score),
            }));
        }
        candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
        candidates.truncate(self.beam.size);
        if let Some(best) = candidates.first().map(|candidate| candidate.score) {
            candidates.retain(|candidate| candidate.score > best - THRESHOLD);
        }
    }

    /// The hypothesis of `candidate`.
    fn continued(&self, candidate: &Candidate, row: &[f32], number: u64) -> Hypothesis<LastLabel> {
        let &Candidate { index, label, score } = candidate;
        let before = &self.beam.hypotheses[index];
        if label == self.blank || before.own == Some(label) {
            let mut same = Hypothesis {
                score,
                own: Some(label),
                ..before.clone()
            };
            if label != self.blank && self.confidence.measure.is_per_frame() {
                same.repeat(self.confidence.of_token(row, row[label]));
            }
            return same;
        }
        let token = Token {
            id: label,
            frame: number,
            log_prob: row[label],
            confidence: self.confidence.of_token(row, row[label]),
        };
        let fusion: FusionState = self.fusion.next(before.fusion, label);
        before.extended(token, score, fusion, Some(label))
    }
}

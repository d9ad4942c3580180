// SPDX-License-Identifier: MIT OR Apache-2.0

//! Beam search for RNN-T: modified adaptive expansion search, as NeMo's `maes_batch`
//! (`ModifiedAESBatchedRNNTComputer`) with its default parameters.
//!
//! In each frame, a hypothesis that is another one with a last token gets the probability that the other one emits this
//! token here (prefix search). Then, twice, each hypothesis that has not left the frame is continued with its best tokens and
//! with blank, and the best of all are kept; blank leaves the frame. Those that have not left it after that leave it with
//! blank.
//!
//! Other than NeMo's MALSD, it never compares hypotheses that are in different frames.

use super::{
    CommitPolicy, TokenSink,
    fusion::Fusion,
    hypotheses::{Beam, Hypothesis, UtteranceEnd, extend_hash},
    top_k::top_k,
};
use crate::{boosting::BoostingTree, confidence::ConfidenceConfig, error::Result, token::Token};
use nemostt_kernels::logits::log_softmax_row;

/// Times that hypotheses are continued in a frame (`maes_num_steps`): most tokens per frame.
const STEPS: usize = 2;
/// Continuations of a hypothesis that are considered, in addition to the beam's size (`maes_expansion_beta`).
const EXPANSIONS: usize = 2;
/// How much worse than its best continuation another one of a hypothesis may be (`maes_expansion_gamma`).
const GAMMA: f64 = 2.3;

/// What scores the tokens that may follow those of a hypothesis. Implemented for a model's networks, and by a table in the
/// tests.
pub(crate) trait PredictionNetwork {
    /// What was computed from the tokens of a hypothesis.
    type Prefix;

    /// Raw logits of `frame` of the chunk after the tokens of `prefix`, blank last.
    fn logits<'a>(&mut self, prefix: &'a mut Self::Prefix, frame: usize) -> Result<&'a [f32]>;

    /// What is computed from the tokens of `prefix` and `token`; its logits are asked for in `frame` next.
    fn extend(&mut self, prefix: &Self::Prefix, token: usize, frame: usize) -> Result<Self::Prefix>;
}

/// What hypotheses of an RNN-T have.
#[derive(Debug, Clone)]
struct Labels<P> {
    /// Hash of the tokens before the last one; `None`: there is no last one.
    prefix_hash: Option<u64>,
    last: usize,
    network: P,
}

/// Beam search with its hypotheses.
#[derive(Debug, Clone)]
pub(crate) struct RnntBeam<P> {
    beam: Beam<Labels<P>>,
    blank: usize,
    fusion: Fusion,
    /// How the confidence of tokens is computed.
    pub(crate) confidence: ConfidenceConfig,
    scratch: Scratch,
}

/// Scores in a frame.
#[derive(Debug, Clone, Default)]
struct Scratch {
    /// Of each hypothesis.
    rows: Vec<Row>,
    top: Vec<(usize, f32)>,
    candidates: Vec<Candidate>,
    added: Vec<f32>,
    language_model: Vec<f32>,
}

#[derive(Debug, Clone, Default)]
struct Row {
    log_probs: Vec<f32>,
    /// With phrases or a language model: the sums by which tokens are chosen.
    fused: Vec<f32>,
}

impl Row {
    fn scores(&self) -> &[f32] {
        match self.fused.is_empty() {
            true => &self.log_probs,
            false => &self.fused,
        }
    }
}

/// A continuation of the hypothesis at `index`.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    index: usize,
    /// `None`: it has left the frame, and stays as it is.
    label: Option<usize>,
    /// Of the tokens with `label`, if that is one.
    hash: u64,
    score: f64,
}

impl<P: Clone> RnntBeam<P> {
    /// A search at the start of a stream, of at most `size` hypotheses; `first` is computed from no tokens.
    pub(crate) fn new((size, n_best): (usize, usize), blank: usize, fusion: Fusion, first: P) -> Self {
        let labels = Labels {
            prefix_hash: None,
            last: blank,
            network: first,
        };
        let first = Hypothesis::empty(fusion.start(), labels);
        Self {
            beam: Beam::new(size, n_best, true, first),
            blank,
            fusion,
            confidence: ConfidenceConfig::default(),
            scratch: Scratch::default(),
        }
    }

    /// What was computed from the tokens of the hypothesis of which logits are asked for first in each chunk.
    pub(crate) fn first(&mut self) -> &mut P {
        &mut self.beam.hypotheses[0].own.network
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

    /// Decodes a chunk of `frames` frames, the first of which is encoder frame `first_frame`.
    pub(crate) fn decode(
        &mut self,
        network: &mut impl PredictionNetwork<Prefix = P>,
        frames: usize,
        first_frame: u64,
        policy: &CommitPolicy<'_>,
        sink: &mut impl TokenSink,
    ) -> Result<()> {
        for (frame, number) in (0..frames).zip(first_frame..) {
            self.frame(network, frame, number)?;
            let end = UtteranceEnd::without_score(&self.fusion);
            self.beam.advance(number + 1, policy, &end, sink);
        }
        Ok(())
    }

    /// Forgets decided tokens before frame `frame`, which belong to an utterance that was cut off.
    pub(crate) fn forget_before(&mut self, frame: u64) {
        self.beam.forget_before(frame);
    }

    /// Ends the utterance.
    pub(crate) fn finish(&mut self, sink: &mut impl TokenSink) {
        self.beam
            .end_utterance(&UtteranceEnd::without_score(&self.fusion), sink);
    }

    fn frame(&mut self, network: &mut impl PredictionNetwork<Prefix = P>, frame: usize, number: u64) -> Result<()> {
        for index in 0..self.beam.hypotheses.len() {
            self.score(network, index, frame)?;
        }
        self.search_prefixes();
        // Which hypotheses have not left the frame. As in NeMo, this is of places in the beam: a hypothesis that takes the
        // place of one that has left the frame leaves it, too, without the probability of blank.
        let mut open = vec![true; self.beam.size];
        for _ in 0..STEPS {
            if !open.iter().take(self.beam.hypotheses.len()).any(|&open| open) {
                break;
            }
            self.find_candidates(&open);
            self.expand(network, (frame, number), &mut open)?;
        }
        for ((hypothesis, row), _) in self
            .beam
            .hypotheses
            .iter_mut()
            .zip(&self.scratch.rows)
            .zip(open)
            .filter(|(_, open)| *open)
        {
            hypothesis.score += f64::from(row.log_probs[self.blank]);
        }
        Ok(())
    }

    /// Scores what may follow the hypothesis at `index`.
    fn score(&mut self, network: &mut impl PredictionNetwork<Prefix = P>, index: usize, frame: usize) -> Result<()> {
        let Scratch {
            rows,
            added,
            language_model,
            ..
        } = &mut self.scratch;
        if rows.len() <= index {
            rows.resize_with(index + 1, Row::default);
        }
        let (hypothesis, row) = (&mut self.beam.hypotheses[index], &mut rows[index]);
        let logits = network.logits(&mut hypothesis.own.network, frame)?;
        row.log_probs.resize(logits.len(), 0.0);
        log_softmax_row(logits, &mut row.log_probs);
        row.fused.clear();
        if !self.fusion.is_none() {
            // `combine_scores` with `BlankLMScoreMode.LM_WEIGHTED_FULL`.
            let weight = self.fusion.weight();
            let blank = row.log_probs[self.blank];
            let no_blank = (-blank.exp().min(1.0 - 1e-6)).ln_1p() * weight;
            added.resize(self.blank, 0.0);
            self.fusion.scores(hypothesis.fusion, added, language_model);
            let tokens = row.log_probs.iter().zip(added.iter());
            row.fused
                .extend(tokens.map(|(log_prob, added)| log_prob + (no_blank + added)));
            row.fused.push(blank * (1.0 + weight));
        }
        Ok(())
    }

    /// Adds to the score of each hypothesis the probability of getting there from another one in this frame.
    fn search_prefixes(&mut self) {
        if self.beam.size == 1 {
            return;
        }
        let hypotheses = &self.beam.hypotheses;
        let found = |one: &Hypothesis<Labels<P>>| {
            let prefixes = hypotheses.iter().zip(&self.scratch.rows);
            let prefixes = prefixes.filter(|(other, _)| one.own.prefix_hash == Some(other.hash));
            prefixes.fold(f64::NEG_INFINITY, |sum, (other, row)| {
                log_add_exp(sum, other.score + f64::from(row.scores()[one.own.last]))
            })
        };
        let added: Vec<f64> = hypotheses.iter().map(found).collect();
        for (hypothesis, added) in self.beam.hypotheses.iter_mut().zip(added) {
            hypothesis.score = log_add_exp(hypothesis.score, added);
        }
    }

    /// The continuations of all hypotheses, the best ones first.
    fn find_candidates(&mut self, open: &[bool]) {
        let Scratch {
            rows, top, candidates, ..
        } = &mut self.scratch;
        candidates.clear();
        let hypotheses = &self.beam.hypotheses;
        for (index, hypothesis) in hypotheses.iter().enumerate() {
            if !open[index] {
                candidates.push(Candidate {
                    index,
                    label: None,
                    hash: hypothesis.hash,
                    score: hypothesis.score,
                });
                continue;
            }
            top_k(rows[index].scores(), self.beam.size + EXPANSIONS, top);
            let Some(&(_, best)) = top.first() else { continue };
            for &(label, score) in top
                .iter()
                .take_while(|(_, score)| f64::from(*score) > f64::from(best) - GAMMA)
            {
                let is_blank = label == self.blank;
                let candidate = Candidate {
                    index,
                    label: Some(label),
                    hash: match is_blank {
                        true => hypothesis.hash,
                        false => extend_hash(hypothesis.hash, label),
                    },
                    score: hypothesis.score + f64::from(score),
                };
                // `remove_duplicates`: its probability was added by `search_prefixes`.
                let is_known = |candidate: &Candidate| hypotheses.iter().any(|one| one.hash == candidate.hash);
                if is_blank || self.beam.size == 1 || !is_known(&candidate) {
                    candidates.push(candidate);
                }
            }
        }
        candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
        if self.beam.size > 1 {
            let mut seen: Vec<u64> = Vec::with_capacity(candidates.len());
            candidates.retain(|candidate| {
                let is_new = candidate.label.is_none() || !seen.contains(&candidate.hash);
                if candidate.label.is_some() {
                    seen.push(candidate.hash);
                }
                is_new
            });
        }
        candidates.truncate(self.beam.size);
    }

    /// Replaces the hypotheses with the candidates.
    fn expand(
        &mut self,
        network: &mut impl PredictionNetwork<Prefix = P>,
        (frame, number): (usize, u64),
        open: &mut [bool],
    ) -> Result<()> {
        // No score is a number: the model is corrupt.
        if self.scratch.candidates.is_empty() {
            open.fill(false);
            return Ok(());
        }
        let candidates = std::mem::take(&mut self.scratch.candidates);
        let mut next = Vec::with_capacity(candidates.len());
        for candidate in &candidates {
            let token = candidate.label.filter(|&label| label != self.blank);
            next.push(match token {
                Some(id) => Some(self.extended(network, candidate, id, (frame, number))?),
                None => None,
            });
        }
        // A hypothesis has at most one continuation without a token.
        let mut old: Vec<_> = std::mem::take(&mut self.beam.hypotheses)
            .into_iter()
            .map(Some)
            .collect();
        for (index, (candidate, next)) in candidates.iter().zip(next).enumerate() {
            let is_new = next.is_some();
            open[index] &= is_new;
            let hypothesis = next.or_else(|| {
                let mut same = old[candidate.index].take()?;
                same.score = candidate.score;
                Some(same)
            });
            self.beam.hypotheses.extend(hypothesis);
            if is_new {
                self.score(network, index, frame)?;
            }
        }
        self.scratch.candidates = candidates;
        Ok(())
    }

    /// The hypothesis at the index of `candidate`, continued with token `id`.
    fn extended(
        &self,
        network: &mut impl PredictionNetwork<Prefix = P>,
        candidate: &Candidate,
        id: usize,
        (frame, number): (usize, u64),
    ) -> Result<Hypothesis<Labels<P>>> {
        let before = &self.beam.hypotheses[candidate.index];
        let labels = Labels {
            prefix_hash: Some(before.hash),
            last: id,
            network: network.extend(&before.own.network, id, frame)?,
        };
        let log_probs = &self.scratch.rows[candidate.index].log_probs;
        let token = Token {
            id,
            frame: number,
            log_prob: log_probs[id],
            confidence: self.confidence.of_token(log_probs, log_probs[id]),
        };
        let fusion = self.fusion.next(before.fusion, id);
        Ok(before.extended(token, candidate.score, fusion, labels))
    }
}

/// `ln(e^a + e^b)`.
fn log_add_exp(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    match high == f64::NEG_INFINITY {
        true => high,
        false => high + (low - high).exp().ln_1p(),
    }
}

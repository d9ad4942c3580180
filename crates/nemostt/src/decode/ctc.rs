// SPDX-License-Identifier: MIT OR Apache-2.0

//! Greedy CTC: the best token of each frame, with repeats collapsed and blanks dropped.
//!
//! With [boosting](crate::boosting), the token is chosen as in NeMo's
//! `GreedyBatchedCTCInfer._greedy_decode_logprobs_batched_fusion_models_torch`: where neither blank nor the previous token
//! scores best without boosting, it is the one with the highest sum of log-probability and boost, other than the previous one.

use super::argmax::argmax;
use crate::{boosting::Boosting, confidence::ConfidenceConfig, token::Token};

/// What a frame adds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Emission {
    Token(Token),
    /// A frame repeats token `id`, the last one.
    Repeat {
        id: usize,
        confidence: f32,
    },
}

/// Greedy CTC over a stream; repeats are also collapsed across chunks.
#[derive(Debug, Clone)]
pub(crate) struct Ctc {
    blank: usize,
    /// Best token of the previous frame; blank at the start.
    previous: usize,
}

/// The state of a [`Ctc`] between chunks.
#[derive(Debug, Default)]
pub(crate) struct CtcSnapshot {
    previous: usize,
}

impl Ctc {
    /// A decoder at the start of a stream, for a model whose last id, `blank`, is the blank.
    pub(crate) fn new(blank: usize) -> Self {
        Self { blank, previous: blank }
    }

    /// Decodes the first `frames` rows of `log_probs`, \[T, blank + 1\]; the first row is encoder frame `first_frame`.
    pub(crate) fn decode(
        &mut self,
        log_probs: &[f32],
        frames: usize,
        first_frame: u64,
        mut boosting: Option<&mut Boosting>,
        confidence: &ConfidenceConfig,
        mut emit: impl FnMut(Emission),
    ) {
        for (row, frame) in log_probs.chunks_exact(self.blank + 1).take(frames).zip(first_frame..) {
            let mut id = argmax(row);
            if id != self.blank && id != self.previous {
                if let Some(boosting) = boosting.as_deref_mut() {
                    id = boosting.choose(&row[..self.blank], id, Some(self.previous));
                }
                let log_prob = row[id];
                emit(Emission::Token(Token {
                    id,
                    frame,
                    log_prob,
                    confidence: confidence.of_token(row, log_prob),
                }));
            } else if id != self.blank {
                let confidence = confidence.of_token(row, row[id]);
                emit(Emission::Repeat { id, confidence });
            }
            self.previous = id;
        }
    }

    /// Resets to the start of a stream.
    pub(crate) fn reset(&mut self) {
        self.previous = self.blank;
    }

    /// Copies what [`reset`](Self::reset) sets.
    pub(crate) fn save(&self, snapshot: &mut CtcSnapshot) {
        snapshot.previous = self.previous;
    }

    /// Restores the state saved in `snapshot`.
    pub(crate) fn restore(&mut self, snapshot: &CtcSnapshot) {
        self.previous = snapshot.previous;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows in which the given ids score best; the tokens are 0 to 2, blank is 3.
    fn rows(best: &[usize]) -> Vec<f32> {
        let row = |&id: &usize| (0..4).map(move |i| if i == id { -0.1 } else { -3.0 });
        best.iter().flat_map(row).collect()
    }

    fn token(emission: Emission) -> Option<(usize, u64)> {
        match emission {
            Emission::Token(token) => Some((token.id, token.frame)),
            Emission::Repeat { .. } => None,
        }
    }

    fn ids(ctc: &mut Ctc, best: &[usize], first_frame: u64) -> Vec<(usize, u64)> {
        let mut found = Vec::new();
        let emit = |emission| found.extend(token(emission));
        ctc.decode(
            &rows(best),
            best.len(),
            first_frame,
            None,
            &ConfidenceConfig::default(),
            emit,
        );
        found
    }

    #[test]
    fn repeats_collapse_unless_separated_by_blank() {
        let mut ctc = Ctc::new(3);
        assert_eq!(ids(&mut ctc, &[3, 1, 1, 3, 1, 2, 2], 10), [(1, 11), (1, 14), (2, 15)]);
    }

    #[test]
    fn repeats_collapse_across_chunks() {
        let mut ctc = Ctc::new(3);
        assert_eq!(ids(&mut ctc, &[1], 0), [(1, 0)]);
        assert_eq!(ids(&mut ctc, &[1, 2], 1), [(2, 2)]);
        ctc.reset();
        assert_eq!(ids(&mut ctc, &[2], 0), [(2, 0)]);
    }

    /// A case of `tests/data/boosting/ctc.json`.
    #[derive(serde::Deserialize)]
    struct Case {
        seed: u32,
        tokens: usize,
        frames: usize,
        phrases: Vec<Vec<usize>>,
        weights: Vec<f32>,
        /// The best token of each frame.
        labels: Vec<usize>,
    }

    /// As `table` in `tools/gen_boosting_goldens.py`.
    fn table(seed: u32, values: usize) -> Vec<f32> {
        let next = |&state: &u32| Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        let states = std::iter::successors(next(&seed), next);
        states.take(values).map(|state| (state >> 22) as f32 / 64.0).collect()
    }

    #[test]
    fn boosted_tokens_are_those_of_nemo() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/boosting/ctc.json");
        let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert!(cases.len() >= 3);
        for case in cases {
            let phrases: Vec<_> = case.phrases.into_iter().zip(case.weights).collect();
            let table = table(case.seed, case.frames * (case.tokens + 1));
            // In chunks of 7 frames.
            let mut boosting = Boosting::new(crate::boosting::BoostingTree::of_tokens(&phrases));
            let (mut ctc, mut found) = (Ctc::new(case.tokens), Vec::new());
            for (rows, first) in table.chunks(7 * (case.tokens + 1)).zip((0..).step_by(7)) {
                let emit = |emission| found.extend(token(emission));
                ctc.decode(rows, 7, first, Some(&mut boosting), &ConfidenceConfig::default(), emit);
            }
            let mut expected = Vec::new();
            let mut previous = case.tokens;
            for (frame, &label) in (0..).zip(&case.labels) {
                if label != case.tokens && label != previous {
                    expected.push((label, frame));
                }
                previous = label;
            }
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn rows_beyond_frames_are_ignored() {
        let mut found = 0;
        Ctc::new(3).decode(&rows(&[0, 1, 2]), 1, 0, None, &ConfidenceConfig::default(), |_| {
            found += 1
        });
        assert_eq!(found, 1);
    }
}

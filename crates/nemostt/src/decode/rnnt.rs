// SPDX-License-Identifier: MIT OR Apache-2.0

//! Greedy RNN-T, like NeMo's `GreedyRNNTInfer._greedy_decode`: in each frame, tokens are emitted until blank scores
//! best, at most `max_symbols` of them. The prediction network advances on non-blank tokens only and keeps its state
//! across chunks.
//!
//! With [boosting](crate::boosting), the token is chosen as in NeMo's `GreedyBatchedRNNTLabelLoopingComputer.torch_impl`
//! with fusion models: blank is emitted if it scores best without boosting; otherwise the token is the one with the highest
//! sum of logit and boost.
//!
//! The joint scores all frames of a chunk in one call. As long as blank scores best, the prediction state does not
//! change and the scores remain valid. A token makes a new call necessary, from its frame on, for as many frames as
//! cost little.

use super::argmax::{argmax, log_softmax};
use crate::{
    boosting::Boosting,
    confidence::ConfidenceConfig,
    error::Result,
    model::{Tensor, Transducer, TransducerState},
    token::Token,
};

/// Scores the frames of a chunk, given the tokens so far.
///
/// Implemented by [`TransducerScorer`], and by a table in the tests.
pub(crate) trait Scorer {
    /// Begins a chunk: scores of the previous one are no longer valid.
    fn start_chunk(&mut self);
    /// Scores `frame`, and frames after it if that costs little, with the current state. Returns the first frame that
    /// was not scored.
    fn score(&mut self, frame: usize) -> Result<usize>;
    /// Raw logits of a frame that was scored, blank last.
    fn logits(&self, frame: usize) -> &[f32];
    /// Makes `token` the last token, and the state after the last call the current one.
    fn accept_token(&mut self, token: usize);
}

/// The joint and prediction network of a model with the state of a stream.
pub(crate) struct TransducerScorer<'a> {
    pub(crate) model: &'a Transducer,
    pub(crate) state: &'a mut TransducerState,
    /// The encoder's output for the chunk.
    pub(crate) frames: &'a Tensor<f32>,
}

impl Scorer for TransducerScorer<'_> {
    fn start_chunk(&mut self) {
        self.state.start_chunk();
    }

    fn score(&mut self, frame: usize) -> Result<usize> {
        self.state.score(self.model, self.frames, frame)
    }

    fn logits(&self, frame: usize) -> &[f32] {
        self.state.logits(frame)
    }

    fn accept_token(&mut self, token: usize) {
        self.state.accept_token(token);
    }
}

/// Greedy RNN-T. All state that is kept from chunk to chunk is in the [`Scorer`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rnnt {
    pub(crate) blank: usize,
    pub(crate) max_symbols: usize,
}

impl Rnnt {
    /// Decodes a chunk of `frames` frames, the first of which is encoder frame `first_frame`.
    pub(crate) fn decode(
        &self,
        scorer: &mut impl Scorer,
        frames: usize,
        first_frame: u64,
        mut boosting: Option<&mut Boosting>,
        confidence: &ConfidenceConfig,
        mut emit: impl FnMut(Token),
    ) -> Result<()> {
        scorer.start_chunk();
        let mut frame = 0;
        let mut symbols = 0;
        let mut scored = 0;
        while frame < frames {
            if frame >= scored {
                scored = scorer.score(frame)?;
            }
            let logits = scorer.logits(frame);
            let mut id = argmax(logits);
            if id == self.blank {
                frame += 1;
                symbols = 0;
                continue;
            }
            if let Some(boosting) = boosting.as_deref_mut() {
                id = boosting.choose(&logits[..self.blank], id, None);
            }
            let log_prob = log_softmax(logits, id);
            emit(Token {
                id,
                frame: first_frame + frame as u64,
                log_prob,
                confidence: confidence.of_token(logits, log_prob),
            });
            scorer.accept_token(id);
            scored = 0;
            symbols += 1;
            if symbols == self.max_symbols {
                frame += 1;
                symbols = 0;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLANK: usize = 2;

    /// Emits `plan[frame]` tokens (always token 1) in each frame, regardless of the calls.
    #[derive(Default)]
    struct Table {
        plan: Vec<usize>,
        emitted: Vec<usize>,
        calls: usize,
        logits: Vec<[f32; 3]>,
        /// Whether a call scores one frame only, as the joints of some exports do.
        one_frame: bool,
    }

    impl Table {
        fn new(plan: &[usize]) -> Self {
            Self {
                plan: plan.to_vec(),
                emitted: vec![0; plan.len()],
                logits: vec![[0.0; 3]; plan.len()],
                ..Default::default()
            }
        }
    }

    impl Scorer for Table {
        fn start_chunk(&mut self) {}

        fn score(&mut self, requested: usize) -> Result<usize> {
            self.calls += 1;
            for (frame, row) in self.logits.iter_mut().enumerate() {
                if self.one_frame && frame != requested {
                    // Garbage: only the requested frame may be read.
                    *row = [9.0, 0.0, 0.0];
                    continue;
                }
                let more = self.emitted[frame] < self.plan[frame];
                *row = if more { [0.0, 5.0, 1.0] } else { [0.0, 1.0, 5.0] };
            }
            Ok(if self.one_frame { requested + 1 } else { usize::MAX })
        }

        fn logits(&self, frame: usize) -> &[f32] {
            &self.logits[frame]
        }

        fn accept_token(&mut self, token: usize) {
            assert_eq!(token, 1);
            // The current frame is the first with tokens left to emit.
            let at = (0..self.plan.len()).find(|&f| self.emitted[f] < self.plan[f]);
            self.emitted[at.unwrap()] += 1;
        }
    }

    fn frames(plan: &[usize], max_symbols: usize) -> (Vec<u64>, usize) {
        let mut table = Table::new(plan);
        let mut found = Vec::new();
        let rnnt = Rnnt {
            blank: BLANK,
            max_symbols,
        };
        rnnt.decode(
            &mut table,
            plan.len(),
            100,
            None,
            &ConfidenceConfig::default(),
            |token| found.push(token.frame),
        )
        .unwrap();
        (found, table.calls)
    }

    #[test]
    fn chunk_without_tokens_takes_one_call() {
        assert_eq!(frames(&[0; 14], 10), (vec![], 1));
    }

    #[test]
    fn each_token_takes_one_more_call() {
        assert_eq!(frames(&[0, 1, 0, 2], 10), (vec![101, 103, 103], 4));
    }

    #[test]
    fn single_frame_joint_emits_the_same_tokens() {
        let mut table = Table::new(&[0, 1, 0, 2]);
        table.one_frame = true;
        let mut found = Vec::new();
        let rnnt = Rnnt {
            blank: BLANK,
            max_symbols: 10,
        };
        rnnt.decode(&mut table, 4, 100, None, &ConfidenceConfig::default(), |token| {
            found.push(token.frame)
        })
        .unwrap();
        assert_eq!((found, table.calls), (vec![101, 103, 103], 7));
    }

    #[test]
    fn max_symbols_limits_tokens_per_frame() {
        // The table never runs out of tokens in frame 0; decoding must move on to the next frame.
        let mut table = Table::new(&[usize::MAX, 0]);
        let mut found = Vec::new();
        let rnnt = Rnnt {
            blank: BLANK,
            max_symbols: 3,
        };
        rnnt.decode(&mut table, 2, 0, None, &ConfidenceConfig::default(), |token| {
            found.push(token.frame)
        })
        .unwrap();
        assert_eq!(found, [0, 0, 0]);
    }

    #[test]
    fn boosting_chooses_among_tokens_but_not_against_blank() {
        let tree = crate::boosting::BoostingTree::of_tokens(&[(vec![0, 0], 4.5)]);
        let mut boosting = Boosting::new(tree);
        let mut tokens = Vec::new();
        // Where the table emits, token 1 has logit 5, blank 1 and token 0 none: the first 0 needs more than its boost.
        let logits = [
            [0.75, 5.0, 1.0],
            [0.75, 0.0, 5.0],
            [0.25, 5.0, 1.0],
            [0.0, 15.0, 1.0],
            [0.0, 5.0, 1.0],
        ];
        for (frame, logits) in (0..).zip(logits) {
            let mut one = One { logits, emitted: false };
            let rnnt = Rnnt {
                blank: BLANK,
                max_symbols: 10,
            };
            rnnt.decode(
                &mut one,
                1,
                frame,
                Some(&mut boosting),
                &ConfidenceConfig::default(),
                |token| tokens.push((token.id, token.frame, token.log_prob)),
            )
            .unwrap();
        }
        let ids: Vec<_> = tokens.iter().map(|&(id, frame, _)| (id, frame)).collect();
        // The second 0 gets 2 * 4.5 + ln 2, as would a third one; after another token, the phrase begins again.
        assert_eq!(ids, [(0, 0), (0, 2), (1, 3), (1, 4)]);
        // Confidence is the model's own.
        assert!(tokens.iter().all(|&(_, _, log_prob)| log_prob < 0.0));
    }

    /// A frame with a token, then blank.
    struct One {
        logits: [f32; 3],
        emitted: bool,
    }

    impl Scorer for One {
        fn start_chunk(&mut self) {}

        fn score(&mut self, _: usize) -> Result<usize> {
            Ok(1)
        }

        fn logits(&self, _: usize) -> &[f32] {
            if self.emitted { &[0.0, 0.0, 5.0] } else { &self.logits }
        }

        fn accept_token(&mut self, _: usize) {
            self.emitted = true;
        }
    }

    #[test]
    fn empty_chunk_is_not_scored() {
        assert_eq!(frames(&[], 10), (vec![], 0));
    }
}

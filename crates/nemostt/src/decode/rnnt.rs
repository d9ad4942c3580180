// SPDX-License-Identifier: MIT OR Apache-2.0

//! Greedy RNN-T, as NeMo's `GreedyRNNTInfer._greedy_decode`: in each frame, labels are emitted until blank scores best,
//! at most `max_symbols` of them. The prediction network moves on labels only and keeps its state across chunks.
//!
//! The joint scores all frames of a chunk in one call. As long as frames score blank the prediction state stands still,
//! so those scores hold; the first label makes a new call necessary, from its frame on, for as many frames as cost little.

use super::{
    Token,
    argmax::{argmax, log_softmax},
};
use crate::{
    error::Result,
    model::{Tensor, Transducer, TransducerState},
};

/// Scores of the frames of a chunk against the labels so far.
///
/// The real one is [`TransducerScorer`]; the tests have a table.
pub(crate) trait Scorer {
    /// A chunk begins: what was scored is of the last one.
    fn start_chunk(&mut self);
    /// Scores frame `frame`, and more behind it if that costs nothing, against the present state. Gives the first frame
    /// behind those scored.
    fn score(&mut self, frame: usize) -> Result<usize>;
    /// Raw logits of a frame, blank last.
    fn logits(&self, frame: usize) -> &[f32];
    /// Makes `label` the last label and the state after the last call the present one.
    fn accept_label(&mut self, label: usize);
}

/// The joint and prediction network of a model with the state of a stream.
pub(crate) struct TransducerScorer<'a> {
    pub(crate) model: &'a Transducer,
    pub(crate) state: &'a mut TransducerState,
    /// What the encoder gave for the chunk.
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

    fn accept_label(&mut self, label: usize) {
        self.state.accept_label(label);
    }
}

/// Greedy RNN-T. All that lasts from chunk to chunk is in the [`Scorer`].
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
            let id = argmax(logits);
            if id == self.blank {
                frame += 1;
                symbols = 0;
                continue;
            }
            emit(Token {
                id,
                frame: first_frame + frame as u64,
                log_prob: log_softmax(logits, id),
            });
            scorer.accept_label(id);
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

    /// Emits `plan[frame]` labels (always label 1) in each frame, whatever the calls.
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

        fn score(&mut self, wanted: usize) -> Result<usize> {
            self.calls += 1;
            for (frame, row) in self.logits.iter_mut().enumerate() {
                if self.one_frame && frame != wanted {
                    // What nobody asked for is noise: it must not be looked at.
                    *row = [9.0, 0.0, 0.0];
                    continue;
                }
                let more = self.emitted[frame] < self.plan[frame];
                *row = if more { [0.0, 5.0, 1.0] } else { [0.0, 1.0, 5.0] };
            }
            Ok(if self.one_frame { wanted + 1 } else { usize::MAX })
        }

        fn logits(&self, frame: usize) -> &[f32] {
            &self.logits[frame]
        }

        fn accept_label(&mut self, label: usize) {
            assert_eq!(label, 1);
            // The frame at work is the first with labels to give.
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
        rnnt.decode(&mut table, plan.len(), 100, |token| found.push(token.frame))
            .unwrap();
        (found, table.calls)
    }

    #[test]
    fn a_chunk_without_labels_costs_one_call() {
        assert_eq!(frames(&[0; 14], 10), (vec![], 1));
    }

    #[test]
    fn each_label_costs_one_more_call() {
        assert_eq!(frames(&[0, 1, 0, 2], 10), (vec![101, 103, 103], 4));
    }

    #[test]
    fn joints_of_one_frame_give_the_same_labels() {
        let mut table = Table::new(&[0, 1, 0, 2]);
        table.one_frame = true;
        let mut found = Vec::new();
        let rnnt = Rnnt {
            blank: BLANK,
            max_symbols: 10,
        };
        rnnt.decode(&mut table, 4, 100, |token| found.push(token.frame))
            .unwrap();
        assert_eq!((found, table.calls), (vec![101, 103, 103], 7));
    }

    #[test]
    fn no_more_than_max_symbols_leave_a_frame() {
        // The table never stops in frame 0; decoding moves on to the next frame all the same.
        let mut table = Table::new(&[usize::MAX, 0]);
        let mut found = Vec::new();
        let rnnt = Rnnt {
            blank: BLANK,
            max_symbols: 3,
        };
        rnnt.decode(&mut table, 2, 0, |token| found.push(token.frame)).unwrap();
        assert_eq!(found, [0, 0, 0]);
    }

    #[test]
    fn nothing_is_scored_for_an_empty_chunk() {
        assert_eq!(frames(&[], 10), (vec![], 0));
    }
}

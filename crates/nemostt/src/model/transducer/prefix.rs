// SPDX-License-Identifier: MIT OR Apache-2.0

//! Scores for several token sequences at a time, for beam search: each has the tensors of a stream as plain values, which are
//! copied into those of the [`TransducerState`] for a run, and from them after it.

use std::ops::Range;

use super::{Transducer, TransducerState, predict};
use crate::{error::Result, model::runtime::Tensor};

/// What prediction network and joint compute from the tokens of a hypothesis.
#[derive(Debug, Clone, Default)]
pub(crate) struct PrefixState {
    /// The prediction network's state after the last token, two tensors \[layers, 1, hidden\].
    memory: [Vec<f32>; 2],
    /// The prediction after the last token; empty at the start of a stream, where it is not computed yet.
    prediction: Vec<f32>,
    /// Logits of the frames `scored`, counted from the start of the stream.
    logits: Vec<f32>,
    scored: Range<u64>,
}

/// The encoder's output for a chunk.
#[derive(Clone, Copy)]
pub(crate) struct ChunkFrames<'a> {
    pub(crate) tensor: &'a Tensor<f32>,
    /// Number of its first frame.
    pub(crate) first: u64,
    /// Number of its frames.
    pub(crate) count: usize,
}

fn copy(values: &mut Vec<f32>, tensor: &Tensor<f32>) {
    values.clear();
    values.extend_from_slice(tensor.data());
}

impl TransducerState {
    /// Makes `prefix` the one of which [`head_tensors`](Self::head_tensors) has the prediction. In the chunk that is encoded
    /// next, its logits must be asked for first.
    pub(crate) fn prepare_prefix(&mut self, transducer: &Transducer, prefix: &mut PrefixState) -> Result<()> {
        if prefix.prediction.is_empty() {
            self.reset();
            let network = &transducer.prediction;
            predict(network, &self.predict[self.parity], &mut self.is_predicted)?;
            self.store(prefix);
        }
        self.prediction.data_mut().copy_from_slice(&prefix.prediction);
        self.is_predicted = true;
        Ok(())
    }

    /// Raw logits of `frame` of the chunk after the tokens of `prefix`: one per token, blank last.
    pub(crate) fn prefix_logits<'a>(
        &mut self,
        transducer: &Transducer,
        frames: ChunkFrames<'_>,
        prefix: &'a mut PrefixState,
        frame: usize,
    ) -> Result<&'a [f32]> {
        let number = frames.first + frame as u64;
        if !prefix.scored.contains(&number) {
            self.prediction.data_mut().copy_from_slice(&prefix.prediction);
            (self.is_predicted, self.after_token) = (true, false);
            self.score_prefix(transducer, frames, prefix, frame)?;
        }
        let classes = transducer.shape.classes;
        let at = (number - prefix.scored.start) as usize * classes;
        Ok(&prefix.logits[at..at + classes])
    }

    /// The prefix with `token` after it, with logits from `frame` of the chunk on.
    pub(crate) fn extend_prefix(
        &mut self,
        transducer: &Transducer,
        frames: ChunkFrames<'_>,
        (prefix, token): (&PrefixState, usize),
        frame: usize,
    ) -> Result<PrefixState> {
        self.parity = 0;
        let before = &mut self.memories[0];
        before.0.data_mut().copy_from_slice(&prefix.memory[0]);
        before.1.data_mut().copy_from_slice(&prefix.memory[1]);
        self.token.data_mut()[0] = token as i32;
        (self.is_predicted, self.after_token) = (false, true);
        let mut extended = PrefixState::default();
        self.score_prefix(transducer, frames, &mut extended, frame)?;
        self.store(&mut extended);
        Ok(extended)
    }

    fn score_prefix(
        &mut self,
        transducer: &Transducer,
        frames: ChunkFrames<'_>,
        prefix: &mut PrefixState,
        frame: usize,
    ) -> Result<()> {
        let end = self.score(transducer, frames.tensor, frame)?.min(frames.count);
        prefix.scored = frames.first + frame as u64..frames.first + end as u64;
        prefix.logits.clear();
        for frame in frame..end {
            prefix.logits.extend_from_slice(self.joint_state.logits(frame));
        }
        Ok(())
    }

    /// Copies what the last run of the prediction network computed.
    fn store(&self, prefix: &mut PrefixState) {
        let after = &self.memories[1 - self.parity];
        copy(&mut prefix.memory[0], &after.0);
        copy(&mut prefix.memory[1], &after.1);
        copy(&mut prefix.prediction, &self.prediction);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The networks of a model, for several hypotheses.

use super::PredictionNetwork;
use crate::{
    error::Result,
    model::{ChunkFrames, PrefixState, Transducer, TransducerState},
};

/// The joint and prediction network of a model, with the tensors of a stream, for a chunk.
pub(crate) struct PrefixScorer<'a> {
    model: &'a Transducer,
    state: &'a mut TransducerState,
    frames: ChunkFrames<'a>,
}

impl<'a> PrefixScorer<'a> {
    pub(crate) fn new(model: &'a Transducer, state: &'a mut TransducerState, frames: ChunkFrames<'a>) -> Self {
        state.start_chunk();
        Self { model, state, frames }
    }
}

impl PredictionNetwork for PrefixScorer<'_> {
    type Prefix = PrefixState;

    fn logits<'a>(&mut self, prefix: &'a mut PrefixState, frame: usize) -> Result<&'a [f32]> {
        self.state.prefix_logits(self.model, self.frames, prefix, frame)
    }

    fn extend(&mut self, prefix: &PrefixState, token: usize, frame: usize) -> Result<PrefixState> {
        self.state
            .extend_prefix(self.model, self.frames, (prefix, token), frame)
    }
}

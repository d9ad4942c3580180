// SPDX-License-Identifier: MIT OR Apache-2.0

//! The joint's part in the encoder's run: each chunk's frames are projected and scored against the last prediction as soon as
//! they are there. What is scored again behind a label is [`joint`](super::joint)'s.

use super::runtime::{Binding, LogLevel, Tensor, note};
use crate::{
    error::Result,
    graph::{Encoded, Graph, SCORES},
};

/// Projection and scores for rows, as a graph and with the sizes of its tensors.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// See [`Encoded::join`].
    pub(super) graph: Graph,
    /// Those of a prediction.
    pub(super) prediction: Vec<usize>,
    /// Those of the chunk's frames, projected: \[frames, width\].
    pub(super) projected: Vec<usize>,
    /// Labels and blank.
    pub(super) classes: usize,
    /// Threads for a run of its own, where it is not in the encoder's.
    pub(super) threads: usize,
}

impl Head {
    /// Puts it behind the encoder of file `name`; says why not, in the log, where it cannot be.
    pub(super) fn join(&self, encoder: &mut Encoded, name: &str) -> bool {
        let joined = encoder.join(&self.graph);
        if let Err(reason) = &joined {
            let line = format!("{name}: frames are projected and scored in a run of its own: {reason}");
            note(LogLevel::Info, &line);
        }
        joined.is_ok()
    }
}

/// What an encoder with a head reads and writes, for a run that nobody needs; streams have [their own](super::TransducerState).
pub(super) struct HeadState {
    prediction: Tensor<f32>,
    projected: Tensor<f32>,
    scores: Tensor<f32>,
}

impl HeadState {
    pub(super) fn new(head: &Head) -> Result<Self> {
        Ok(Self {
            prediction: Tensor::zeros(&head.prediction)?,
            projected: Tensor::zeros(&head.projected)?,
            scores: Tensor::zeros(&[head.projected[0], head.classes])?,
        })
    }

    pub(super) fn bind_all(&mut self, run: &mut Binding) -> Result<()> {
        bind(run, &self.prediction, &mut self.projected, &mut self.scores)
    }
}

/// Lets a run of the encoder read `prediction`, and write the chunk's frames, `projected` \[frames, width\], and their raw logits,
/// `scores` \[frames, labels + 1\].
pub(super) fn bind(
    run: &mut Binding,
    prediction: &Tensor<f32>,
    projected: &mut Tensor<f32>,
    scores: &mut Tensor<f32>,
) -> Result<()> {
    run.input("prediction", prediction)?;
    run.output("projected", projected)?;
    run.output(SCORES, scores)
}

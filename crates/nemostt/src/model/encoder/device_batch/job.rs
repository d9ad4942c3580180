// SPDX-License-Identifier: MIT OR Apache-2.0

//! A step of one stream, as it moves through the lane.

/// Inputs and outputs of a step; allocated once for each stream.
#[derive(Debug, Default)]
pub(in crate::model::encoder) struct StepJob {
    /// Mel frames \[mels, width\].
    pub(super) audio: Vec<f32>,
    pub(super) inputs: StepInputs,
    /// Encoder frames or log-probabilities of the chunk.
    pub(super) outputs: Vec<f32>,
    /// Frames that the graph computed, and valid frames in the attention cache after the step.
    pub(super) lengths: [i64; 2],
}

/// The numbers that a step needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct StepInputs {
    /// Mel frames that are not padding.
    pub(super) length: i64,
    /// Encoder frames that are dropped.
    pub(super) drop: i64,
    /// Valid frames in the attention cache.
    pub(super) cached: i64,
    /// The language of a multilingual model.
    pub(super) prompt: i64,
    /// The slot that is read.
    pub(super) read: i64,
    /// The slot that is written.
    pub(super) write: i64,
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a stream of the encoder remembers between windows. Nothing here is allocated again while it runs.

use super::runtime::Tensor;
use crate::error::{Error, Result};
use nemostt_compiler::StateSpec;

/// What a stream remembers between windows.
pub(super) struct StateBuffers {
    /// Tensors of those [states](StateSpec) that are written whole.
    pub(super) states: Vec<Tensor<f32>>,
    /// How many frames of the attention cache, counted from the newest, are real.
    pub(super) len: Tensor<i64>,
}

impl StateBuffers {
    pub(super) fn empty(states: &[StateSpec]) -> Result<Self> {
        let whole = states.iter().filter(|state| state.new_rows.is_none());
        Ok(Self {
            states: whole.map(|state| Tensor::zeros(&state.dims)).collect::<Result<_>>()?,
            len: Tensor::zeros(&[1])?,
        })
    }
}

/// A tensor that a step reads, and to which it adds rows along the last axis but one.
pub(super) struct ShiftBuffer {
    pub(super) all: Tensor<f32>,
    pub(super) new: Tensor<f32>,
    /// Values of the rows of one slice (of one attention head), and of the new ones among them.
    slice: usize,
    added: usize,
}

impl ShiftBuffer {
    pub(super) fn empty(state: &StateSpec, new_rows: usize) -> Result<Self> {
        let mut dims = state.dims.clone();
        let [.., rows, width] = &mut dims[..] else {
            return Err(Error::Shape {
                what: "axes of a cache that rows are added to",
                expected: "2 or more".into(),
                got: dims.len().to_string(),
            });
        };
        let (slice, added) = (*rows * *width, new_rows * *width);
        *rows = new_rows;
        Ok(Self {
            all: Tensor::zeros(&state.dims)?,
            new: Tensor::zeros(&dims)?,
            slice,
            added,
        })
    }

    /// Puts the new rows behind those that are there; the oldest make room.
    pub(super) fn shift(&mut self) {
        let slices = self.all.data_mut().chunks_exact_mut(self.slice);
        for (slice, new) in slices.zip(self.new.data().chunks_exact(self.added)) {
            slice.copy_within(self.added.., 0);
            slice[self.slice - self.added..].copy_from_slice(new);
        }
    }
}

/// A tensor in which each step puts new rows over the oldest ones.
pub(super) struct RingBuffer {
    pub(super) all: Tensor<f32>,
    pub(super) rows: usize,
    pub(super) new_rows: usize,
}

impl RingBuffer {
    pub(super) fn empty(state: &StateSpec, new_rows: usize) -> Result<Self> {
        Ok(Self {
            all: Tensor::zeros(&state.dims)?,
            rows: state.dims.iter().rev().nth(1).copied().unwrap_or_default(),
            new_rows,
        })
    }
}

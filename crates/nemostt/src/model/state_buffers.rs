// SPDX-License-Identifier: MIT OR Apache-2.0

//! The encoder state of a stream between windows. Buffers are allocated once.

use super::runtime::Tensor;
use crate::error::{Error, Result};
use nemostt_compiler::StateSpec;

/// Double-buffered state of a stream.
pub(super) struct StateBuffers {
    /// The [states](StateSpec) that are rewritten in each step.
    pub(super) states: Vec<Tensor<f32>>,
    /// Number of valid frames in the attention cache; these are the newest ones.
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

/// A cache that a step reads, and to which rows are appended on the last axis but one.
pub(super) struct ShiftBuffer {
    pub(super) all: Tensor<f32>,
    pub(super) new: Tensor<f32>,
    /// Values of one slice (one attention head), and of its new rows.
    slice: usize,
    new_values: usize,
}

impl ShiftBuffer {
    pub(super) fn empty(state: &StateSpec, new_rows: usize) -> Result<Self> {
        let mut dims = state.dims.clone();
        let [.., rows, width] = &mut dims[..] else {
            return Err(Error::Shape {
                what: "axes of a cache to which rows are appended",
                expected: "2 or more".into(),
                got: dims.len().to_string(),
            });
        };
        let (slice, new_values) = (*rows * *width, new_rows * *width);
        *rows = new_rows;
        Ok(Self {
            all: Tensor::zeros(&state.dims)?,
            new: Tensor::zeros(&dims)?,
            slice,
            new_values,
        })
    }

    /// Appends the new rows and drops the oldest.
    pub(super) fn shift(&mut self) {
        let slices = self.all.data_mut().chunks_exact_mut(self.slice);
        for (slice, new) in slices.zip(self.new.data().chunks_exact(self.new_values)) {
            slice.copy_within(self.new_values.., 0);
            slice[self.slice - self.new_values..].copy_from_slice(new);
        }
    }
}

/// A cache whose oldest rows are overwritten with new ones in each step.
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

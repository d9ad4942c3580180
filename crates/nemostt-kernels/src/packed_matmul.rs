// SPDX-License-Identifier: MIT OR Apache-2.0

//! A [GEMM](super::gemm) with constant weights as an operation of a program, optionally with a residual.

use std::sync::Arc;

use super::{
    fused_op::{FusedOp, OutputShape, ProgramError, Signature, Split, Task},
    gemm::PackedWeights,
};

/// Minimum bytes of weights per task, which take a thread a few microseconds.
const MIN_TASK_BYTES: usize = 32 << 10;

/// Enough for a worker to take over a part of the share of one that has been preempted. At each start of a task the prefetching
/// of weights starts anew, so that more tasks cost time: 7 % of a step of 2 rows for tasks of [`MIN_TASK_BYTES`].
const MAX_TASKS_PER_WORKER: usize = 4;

/// `output = epilogue(input · weights + bias) + residual`.
#[derive(Debug, Clone)]
pub struct PackedMatMul {
    weights: Arc<PackedWeights>,
    panels_per_task: usize,
}

impl PackedMatMul {
    /// Inputs: rows \[rows, k\], and optionally a residual \[rows, n\]. Output: rows \[rows, n\].
    pub fn new(weights: Arc<PackedWeights>) -> Self {
        let panel_bytes = (weights.bytes() / weights.panel_count().max(1)).max(1);
        Self {
            panels_per_task: MIN_TASK_BYTES.div_ceil(panel_bytes),
            weights,
        }
    }
}

impl FusedOp for PackedMatMul {
    fn signature(&self) -> Signature {
        let (k, n) = (self.weights.k(), self.weights.n());
        Signature {
            optional: 1,
            ..Signature::new([Some(k), Some(n)], [n])
        }
    }

    fn infer(&self, lengths: &[usize]) -> Result<Vec<OutputShape>, ProgramError> {
        let (rows, width) = (lengths[0] / self.weights.k(), self.weights.n());
        let length = rows.checked_mul(width).ok_or(ProgramError::ShapeMismatch)?;
        match lengths.get(1).is_none_or(|&residual| residual == length) {
            true => Ok(vec![OutputShape::Rows { rows, width }]),
            false => Err(ProgramError::ShapeMismatch),
        }
    }

    fn split(&self, _: &[usize], workers: usize) -> Split {
        let blocks = self.weights.panel_count().div_ceil(self.panels_per_task);
        Split::Columns {
            block: self.panels_per_task * self.weights.panel_width(),
            tasks: match workers {
                // A single thread has nothing to share.
                1 => 1,
                _ => blocks.min(workers * MAX_TASKS_PER_WORKER),
            },
        }
    }

    fn is_row_wise(&self) -> bool {
        true
    }

    fn run(&self, task: &mut Task<'_>) {
        let (columns, panel_width) = (task.range(), self.weights.panel_width());
        let panels = columns.start / panel_width..columns.end.div_ceil(panel_width);
        let (lhs, residual) = (task.lhs(), task.optional_input(1));
        self.weights.multiply_panels(panels, lhs, residual, task.target());
    }

    fn weights(&self) -> Option<&Arc<PackedWeights>> {
        Some(&self.weights)
    }

    /// Without a residual, which is row-major.
    fn can_pack_output(&self, inputs: usize) -> bool {
        inputs == 1 && self.weights.can_pack_output()
    }

    fn reads_cold_memory(&self) -> bool {
        true
    }

    fn prefetch(&self, first: usize, _: &[*const f32], _: &[usize]) {
        self.weights.prefetch_panel(first / self.weights.panel_width());
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! A [GEMM](super::gemm) with constant weights as an operation of a program, optionally with a residual.

use std::sync::Arc;

use super::{
    fused_op::{FusedOp, OutputShape, ProgramError, Signature, Split, Task},
    gemm::PackedWeights,
};

/// Minimum bytes of weights per task, which take a thread a few microseconds.
const MIN_TASK_BYTES: usize = 32 << 10;

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

    fn split(&self, _: &[usize], _: usize) -> Split {
        Split::Columns {
            block: self.panels_per_task * self.weights.panel_width(),
            tasks: self.weights.panel_count().div_ceil(self.panels_per_task),
        }
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

    fn prefetch(&self, task: usize, _: &[*const f32]) {
        self.weights.prefetch_panel(task * self.panels_per_task);
    }
}

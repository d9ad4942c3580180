// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tasks that write left-hand sides in packed layout.

use super::{super::memory_plan::MemoryPlan, FusedOp, PackedWeights, ScheduledOp};
use crate::{
    fused_op::{Split, VECTOR_BLOCK},
    gemm::{LhsLayout, Output, row_groups},
};

/// Into how many tasks a prologue on `rows` rows of `width` values is divided for each [group](row_groups), by columns; 0 if
/// each thread runs it for itself. That takes less time than another phase if there is one group, or one thread.
pub(super) fn prologue_parts(rows: usize, width: usize, workers: usize) -> usize {
    match (row_groups(rows).count(), workers) {
        (groups @ 2.., 2..) => workers.div_ceil(groups).min(width.div_ceil(VECTOR_BLOCK)),
        _ => 0,
    }
}

/// How packing `rows` rows in the layout of `weights` is divided: by columns, or by rows where each row has a scale that
/// depends on all of its values.
pub(super) fn packing_split(weights: &PackedWeights, rows: usize, workers: usize) -> Split {
    match weights.lhs_layout() {
        LhsLayout::BytePlanes => Split::by_rows(rows, workers),
        LhsLayout::RowMajor | LhsLayout::Packed => Split::Columns {
            block: VECTOR_BLOCK,
            tasks: (weights.k() / VECTOR_BLOCK).clamp(1, workers),
        },
    }
}

impl ScheduledOp {
    /// # Safety
    /// As for [`run_task`](Self::run_task).
    #[allow(unsafe_code)]
    pub(super) unsafe fn pack_lhs(&self, index: usize, weights: &PackedWeights, memory: &MemoryPlan) {
        let (input, output, width) = (self.inputs[0], self.outputs[0], self.signature.outputs[0]);
        // SAFETY: nothing writes what the operation reads.
        let rows = unsafe { memory.read(input) };
        if weights.lhs_layout() == LhsLayout::BytePlanes {
            let own = self.split.range(index, width);
            // SAFETY: rows of different tasks are disjoint, and nothing reads them meanwhile.
            let mut planes = unsafe { memory.byte_planes(output.value()).rows_mut(own.clone()) };
            planes.put(&rows[own.start * width..own.end * width]);
            return;
        }
        let columns = self.split.range(index, width);
        let packed = memory.raw(output);
        // SAFETY: the output is valid, all tasks write its packed layout, and their columns are disjoint.
        let mut packed = unsafe {
            let output = Output::at(packed.start, packed.length, width);
            output.packed(0..packed.length / width.max(1), columns.clone())
        };
        // There may be no rows.
        packed.put_all(
            columns.start,
            (rows.get(columns.start..).unwrap_or_default(), width),
            columns.len(),
        );
    }

    /// # Safety
    /// As for [`run_task`](Self::run_task).
    #[allow(unsafe_code)]
    pub(super) unsafe fn run_prologue(&self, index: usize, op: &dyn FusedOp, memory: &MemoryPlan) {
        let (input, output, width) = (self.inputs[0], self.outputs[0], self.signature.outputs[0]);
        // SAFETY: nothing writes what the operation reads.
        let rows = unsafe { memory.read(input) };
        let mut groups = row_groups(rows.len() / width);
        let parts = self.split.tasks() / row_groups(rows.len() / width).count().max(1);
        let (Some(group), Some(op)) = (groups.nth(index / parts), op.as_prologue()) else {
            panic!("{op:?} is no prologue, or has fewer tasks");
        };
        let columns = Split::Columns {
            block: VECTOR_BLOCK,
            tasks: parts,
        };
        let columns = columns.range(index % parts, width);
        let packed = memory.raw(output);
        // SAFETY: the output is valid, all tasks write its packed layout, and their rows or columns are disjoint.
        let part = unsafe { Output::at(packed.start, packed.length, width).packed(group.clone(), columns) };
        op.run_packed(&rows[group.start * width..group.end * width], part);
    }
}

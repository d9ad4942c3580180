// SPDX-License-Identifier: MIT OR Apache-2.0

//! Running a task: what the operation gets as its inputs and outputs.

use super::{Kernel, MemoryPlan, PackedWeights, Prologue, ScheduledOp, Slot, ThreadLocalLhs};
use crate::{
    fused_op::{RawSlice, Task, TaskOutput},
    gemm::{Lhs, LhsLayout, PackedLhs},
};

impl ScheduledOp {
    /// Runs task `index`.
    ///
    /// # Safety
    /// `index` must be below [`task_count`](Self::task_count), and each task must run only once per run. The run's inputs
    /// and outputs must be valid. Meanwhile, nothing may write what the operation reads, and only its other tasks may access
    /// what it writes.
    #[allow(unsafe_code)]
    pub(in crate::executor) unsafe fn run_task(
        &self,
        index: usize,
        memory: &MemoryPlan,
        thread_local: &mut ThreadLocalLhs,
    ) {
        let (stream, index) = match self.is_row_wise {
            false => (Some(index % self.streams), index / self.streams),
            true => (None, index),
        };
        match &self.kernel {
            Kernel::Fused { op, weights, prologue } => {
                // SAFETY: nothing writes what the operation reads.
                let lhs = weights
                    .as_ref()
                    .map(|weights| unsafe { self.lhs(weights, prologue.as_ref(), memory, thread_local) });
                let outputs = self.outputs.iter().zip(&self.signature.outputs);
                let outputs = outputs.map(|(&slot, &width)| {
                    let rows = memory.length(slot.value()) / width.max(1);
                    let (values, packed_rows) = match (slot, stream) {
                        (Slot::Packed(_), Some(stream)) => (memory.raw(slot), Some(stream * rows..(stream + 1) * rows)),
                        (Slot::Packed(_), None) => (memory.raw(slot), Some(0..memory.streams() * rows)),
                        (Slot::RowMajor(_), Some(stream)) => (memory.stream(slot, stream), None),
                        (Slot::RowMajor(_), None) => (memory.raw(slot), None),
                    };
                    TaskOutput {
                        values,
                        width,
                        packed_rows,
                    }
                });
                // What is not row-major is only available as `Task::lhs`.
                let inputs = self.inputs.iter().map(|&slot| match (slot, stream) {
                    (Slot::RowMajor(_), Some(stream)) => memory.stream_or_null(slot, stream),
                    (Slot::RowMajor(_), None) => memory.raw_or_null(slot),
                    (Slot::Packed(_), _) => RawSlice::NULL,
                });
                let scalars = self.scalars.iter();
                let scalars = scalars.map(|&value| memory.scalar(value, stream.unwrap_or_default()));
                let in_place = &self.signature.in_place;
                // SAFETY: the caller's guarantee. Different values do not overlap, but for those that are updated in place,
                // which no other operation reads. Tensors of different streams do not overlap.
                let mut task = unsafe { Task::new(index, self.split, inputs, scalars, outputs, in_place, lhs) };
                op.run(&mut task);
            }
            // SAFETY: the caller's guarantee.
            Kernel::PackLhs(weights) => unsafe { self.pack_lhs(index, weights, memory) },
            // SAFETY: the caller's guarantee.
            Kernel::Prologue(prologue) => unsafe { self.run_prologue(index, &*prologue.op, memory) },
        }
    }

    /// The first input in the layout that `weights` need.
    ///
    /// # Safety
    /// Nothing may write it while the result exists.
    #[allow(unsafe_code)]
    unsafe fn lhs<'a>(
        &self,
        weights: &PackedWeights,
        prologue: Option<&Prologue>,
        memory: &'a MemoryPlan,
        thread_local: &'a mut ThreadLocalLhs,
    ) -> Lhs<'a> {
        // SAFETY: the caller's guarantee.
        let values = || unsafe { memory.read(self.inputs[0]) };
        match weights.lhs_layout() {
            LhsLayout::RowMajor => Lhs::RowMajor(values()),
            LhsLayout::Packed => {
                let packed = match prologue.filter(|_| self.runs_prologue) {
                    // SAFETY: the caller's guarantee.
                    Some(Prologue { op, input, output }) => unsafe {
                        thread_local.packed(*output, &**op, memory.read(*input), weights.k())
                    },
                    None => values(),
                };
                Lhs::Packed(PackedLhs::new(packed, packed.len() / weights.k()))
            }
            // SAFETY: the caller's guarantee.
            LhsLayout::BytePlanes => Lhs::BytePlanes(unsafe { memory.byte_planes(self.inputs[0].value()).read() }),
        }
    }
}

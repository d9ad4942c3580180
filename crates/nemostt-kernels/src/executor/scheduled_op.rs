// SPDX-License-Identifier: MIT OR Apache-2.0

//! An operation of a schedule: which slots it reads and writes, and how it is divided into tasks.

use std::sync::Arc;

use super::{
    FusedOp, OutputShape, ProgramError,
    memory_plan::{MemoryPlan, Slot},
    thread_local_lhs::ThreadLocalLhs,
};
use crate::{
    fused_op::{MAX_INPUTS, MAX_SCALARS, RawSlice, Signature, Split, Task, TaskOutput, VECTOR_BLOCK},
    gemm::{Lhs, LhsLayout, Output, PackedLhs, PackedWeights},
};

/// What a [`ScheduledOp`] runs.
pub(super) enum Kernel {
    Fused {
        op: Arc<dyn FusedOp>,
        /// The operation's own, which decide the layout of its first input.
        weights: Option<Arc<PackedWeights>>,
        prologue: Option<Prologue>,
    },
    /// Packs rows in the layout of these weights.
    PackLhs(Arc<PackedWeights>),
}

/// An operation that each thread runs on the first input before.
#[derive(Clone)]
pub(super) struct Prologue {
    pub(super) op: Arc<dyn FusedOp>,
    pub(super) input: Slot,
    /// Number of its output.
    pub(super) output: usize,
}

/// See the [module](self).
pub(super) struct ScheduledOp {
    kernel: Kernel,
    signature: Signature,
    pub(super) inputs: Vec<Slot>,
    scalars: Vec<usize>,
    pub(super) outputs: Vec<Slot>,
    /// For the lengths of the last run.
    split: Split,
}

impl ScheduledOp {
    pub(super) fn new(
        kernel: Kernel,
        signature: Signature,
        inputs: Vec<Slot>,
        scalars: Vec<usize>,
        outputs: Vec<Slot>,
    ) -> Self {
        Self {
            kernel,
            signature,
            inputs,
            scalars,
            outputs,
            split: Split::Rows { rows: 0, tasks: 0 },
        }
    }

    /// Infers the lengths of its outputs from those of its inputs, and divides it into tasks.
    pub(super) fn infer(&mut self, memory: &mut MemoryPlan, workers: usize) -> Result<(), ProgramError> {
        let lengths: Vec<usize> = self.inputs.iter().map(|slot| memory.length(slot.value())).collect();
        for (&length, width) in lengths.iter().zip(&self.signature.inputs) {
            if width.is_some_and(|width| width == 0 || !length.is_multiple_of(width)) {
                return Err(ProgramError::WidthMismatch);
            }
        }
        let shapes = match &self.kernel {
            Kernel::Fused { op, prologue, .. } => {
                if prologue.is_some() {
                    memory.reserve_thread_local(lengths[0]);
                }
                let shapes = op.infer(&lengths)?;
                self.split = op.split(&lengths, workers);
                let is_consistent = |(shape, &width): (&OutputShape, &usize)| match *shape {
                    OutputShape::Rows { width: inner, .. } => width > 0 && inner.is_multiple_of(width),
                    OutputShape::Like(input) => input < lengths.len(),
                };
                let outputs = &self.signature.outputs;
                let is_valid = shapes.len() == outputs.len()
                    && shapes.iter().zip(outputs).all(is_consistent)
                    && self.split.is_valid(outputs[0]);
                if !is_valid {
                    return Err(ProgramError::InvalidOp);
                }
                shapes
            }
            Kernel::PackLhs(weights) => {
                let width = self.signature.outputs[0];
                let tasks = match weights.lhs_layout() {
                    LhsLayout::BytePlanes => 1,
                    _ => (width / VECTOR_BLOCK).clamp(1, workers),
                };
                self.split = Split::Columns {
                    block: VECTOR_BLOCK,
                    tasks,
                };
                // The same value in another layout.
                return Ok(());
            }
        };
        for (output, shape) in self.outputs.iter().zip(shapes) {
            let (shape, length) = match shape {
                OutputShape::Rows { rows, width } => (shape, rows.checked_mul(width)),
                OutputShape::Like(input) => {
                    let value = self.inputs[input].value();
                    (memory.shape(value), Some(memory.length(value)))
                }
            };
            memory.set_shape(output.value(), shape, length.ok_or(ProgramError::ShapeMismatch)?);
        }
        Ok(())
    }

    pub(super) fn accepts_scalars(&self, memory: &MemoryPlan) -> bool {
        let Kernel::Fused { op, .. } = &self.kernel else {
            return true;
        };
        let mut scalars = [0; MAX_SCALARS];
        for (scalar, value) in scalars.iter_mut().zip(&self.scalars) {
            *scalar = memory.scalar(*value);
        }
        op.accepts_scalars(&scalars[..self.scalars.len()])
    }

    pub(super) fn task_count(&self) -> usize {
        self.split.tasks()
    }

    /// Runs task `index`.
    ///
    /// # Safety
    /// `index` must be below [`task_count`](Self::task_count), and each task must run only once per run. The run's inputs
    /// and outputs must be valid. Meanwhile, nothing may write what the operation reads, and only its other tasks may access
    /// what it writes.
    #[allow(unsafe_code)]
    pub(super) unsafe fn run_task(&self, index: usize, memory: &MemoryPlan, thread_local: &mut ThreadLocalLhs) {
        match &self.kernel {
            Kernel::Fused { op, weights, prologue } => {
                // SAFETY: nothing writes what the operation reads.
                let lhs = weights
                    .as_ref()
                    .map(|weights| unsafe { self.lhs(weights, prologue.as_ref(), memory, thread_local) });
                let outputs = self.outputs.iter().zip(&self.signature.outputs);
                let outputs = outputs.map(|(slot, &width)| TaskOutput {
                    values: memory.raw(*slot),
                    width,
                    is_packed: matches!(slot, Slot::Packed(_)),
                });
                // What is not row-major is only available as `Task::lhs`.
                let inputs = self.inputs.iter().enumerate().map(|(index, slot)| match slot {
                    Slot::RowMajor(_) if index > 0 || prologue.is_none() => memory.raw_or_null(*slot),
                    _ => RawSlice::NULL,
                });
                let scalars = self.scalars.iter().map(|&value| memory.scalar(value));
                let in_place = &self.signature.in_place;
                // SAFETY: the caller's guarantee. Different values do not overlap, but for those that are updated in place,
                // which no other operation reads.
                let mut task = unsafe { Task::new(index, self.split, inputs, scalars, outputs, in_place, lhs) };
                op.run(&mut task);
            }
            // SAFETY: the caller's guarantee.
            Kernel::PackLhs(weights) => unsafe { self.pack_lhs(index, weights, memory) },
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
                let packed = match prologue {
                    Some(Prologue { op, output, .. }) => thread_local.packed(*output, &**op, values(), weights.k()),
                    None => values(),
                };
                Lhs::Packed(PackedLhs::new(packed, packed.len() / weights.k()))
            }
            // SAFETY: the caller's guarantee.
            LhsLayout::BytePlanes => unsafe { memory.byte_planes(self.inputs[0].value()) }.byte_planes(),
        }
    }

    /// # Safety
    /// As for [`run_task`](Self::run_task).
    #[allow(unsafe_code)]
    unsafe fn pack_lhs(&self, index: usize, weights: &PackedWeights, memory: &MemoryPlan) {
        let (input, output, width) = (self.inputs[0], self.outputs[0], self.signature.outputs[0]);
        // SAFETY: nothing writes what the operation reads.
        let rows = unsafe { memory.read(input) };
        if weights.lhs_layout() == LhsLayout::BytePlanes {
            // SAFETY: this is the only task.
            weights.pack_lhs(rows, unsafe { memory.byte_planes_mut(output.value()) });
            return;
        }
        let columns = self.split.range(index, width);
        let packed = memory.raw(output);
        // SAFETY: the output is valid, all tasks write its packed layout, and their columns are disjoint.
        let mut packed = unsafe { Output::at(packed.start, packed.length, width).packed(columns.clone()) };
        // There may be no rows.
        packed.put_all(
            columns.start,
            (rows.get(columns.start..).unwrap_or_default(), width),
            columns.len(),
        );
    }

    pub(super) fn reads_cold_memory(&self) -> bool {
        matches!(&self.kernel, Kernel::Fused { op, .. } if op.reads_cold_memory())
    }

    /// Prefetches what the first task of worker `worker` of `workers` reads.
    pub(super) fn prefetch(&self, worker: usize, workers: usize, memory: &MemoryPlan) {
        if let Kernel::Fused { op, .. } = &self.kernel
            && self.task_count() > 0
        {
            let mut inputs = [std::ptr::null(); MAX_INPUTS];
            for (address, slot) in inputs.iter_mut().zip(&self.inputs) {
                *address = memory.raw_or_null(*slot).start.cast_const();
            }
            let task = worker * self.task_count() / workers;
            op.prefetch(self.split.range(task, self.signature.outputs[0]).start, &inputs);
        }
    }
}

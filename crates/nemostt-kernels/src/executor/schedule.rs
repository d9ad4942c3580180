// SPDX-License-Identifier: MIT OR Apache-2.0

//! The phases of a program.

use std::collections::HashSet;

use super::{
    Input, ProgramError,
    memory_plan::{MemoryPlan, Slot},
    scheduled_op::ScheduledOp,
    thread_local_lhs::ThreadLocalLhs,
};

/// Operations by phases: those of a phase do not depend on each other.
pub(super) struct Schedule {
    phases: Vec<Vec<ScheduledOp>>,
    /// Number of values.
    values: usize,
    /// Inputs of the program that are read.
    inputs: Vec<usize>,
    /// Widths that rows of inputs must have.
    input_widths: Vec<(usize, usize)>,
    /// Inputs that are scalars.
    scalars: Vec<usize>,
}

impl Schedule {
    /// # Errors
    /// `outputs` are not all written in row-major layout, or are not distinct.
    pub(super) fn new(
        phases: Vec<Vec<ScheduledOp>>,
        values: usize,
        inputs: Vec<usize>,
        (input_widths, scalars): (Vec<(usize, usize)>, Vec<usize>),
        outputs: &[usize],
    ) -> Result<Self, ProgramError> {
        let written = phases.iter().flatten().flat_map(|op| &op.outputs);
        let written: HashSet<Slot> = written.copied().collect();
        let mut seen = HashSet::new();
        let mut outputs = outputs.iter();
        match outputs.all(|&output| written.contains(&Slot::RowMajor(output)) && seen.insert(output)) {
            true => Ok(Self {
                phases,
                values,
                inputs,
                input_widths,
                scalars,
            }),
            false => Err(ProgramError::UnknownValue),
        }
    }

    /// Number of values.
    pub(super) fn values(&self) -> usize {
        self.values
    }

    /// Inputs of the program that are read.
    pub(super) fn inputs(&self) -> &[usize] {
        &self.inputs
    }

    /// Whether an input is a tensor whose rows have the width that its readers expect, or a scalar if they read one.
    pub(super) fn accepts(&self, number: usize, input: Input) -> bool {
        let is_scalar = self.scalars.contains(&number);
        match input {
            Input::Scalar(_) => is_scalar,
            Input::Tensor(_, width) => {
                let mut expected = self.input_widths.iter().filter(|(value, _)| *value == number);
                !is_scalar && expected.all(|(_, expected)| width == *expected)
            }
        }
    }

    pub(super) fn phases(&self) -> impl DoubleEndedIterator<Item = &[ScheduledOp]> + ExactSizeIterator {
        self.phases.iter().map(Vec::as_slice)
    }

    /// The value that an operation updates in place, if the result is `output`.
    pub(super) fn in_place_input(&self, output: usize) -> Option<usize> {
        self.phases().flatten().find_map(|op| op.in_place_input(output))
    }

    /// Values that [row-wise](crate::fused_op::FusedOp::is_row_wise) operations read or write in row-major layout.
    pub(super) fn row_wise_values(&self) -> impl Iterator<Item = usize> {
        let ops = self.phases().flatten().filter(|op| op.is_row_wise());
        let slots = ops.flat_map(|op| op.inputs.iter().chain(&op.outputs));
        slots
            .filter(|slot| matches!(slot, Slot::RowMajor(_)))
            .map(|slot| slot.value())
    }

    /// Infers the lengths of all values.
    pub(super) fn infer(&mut self, memory: &mut MemoryPlan) -> Result<(), ProgramError> {
        let mut ops = self.phases.iter_mut().flatten();
        ops.try_for_each(|op| op.infer(memory))
    }

    /// Divides operations into tasks, for a batch of `streams` streams.
    pub(super) fn split(&mut self, streams: usize, workers: usize) -> Result<(), ProgramError> {
        let mut ops = self.phases.iter_mut().flatten();
        ops.try_for_each(|op| op.split(streams, workers))
    }

    /// Tasks of each phase.
    pub(super) fn task_counts(&self) -> impl Iterator<Item = usize> {
        self.phases().map(|ops| ops.iter().map(ScheduledOp::task_count).sum())
    }

    pub(super) fn accepts_scalars(&self, memory: &MemoryPlan) -> bool {
        self.phases().flatten().all(|op| op.accepts_scalars(memory))
    }

    /// Runs task `index` of a phase.
    ///
    /// # Safety
    /// As for [`ScheduledOp::run_task`], for the operation that the task belongs to.
    #[allow(unsafe_code)]
    pub(super) unsafe fn run_task(
        &self,
        phase: usize,
        mut index: usize,
        memory: &MemoryPlan,
        thread_local: &mut ThreadLocalLhs,
    ) {
        for op in &self.phases[phase] {
            let task_count = op.task_count();
            if index < task_count {
                // SAFETY: the caller's guarantee.
                return unsafe { op.run_task(index, memory, thread_local) };
            }
            index -= task_count;
        }
    }

    /// Prefetches what worker `worker` of `workers` reads first in the next phase, from `phase` on, that reads cold memory.
    pub(super) fn prefetch(&self, phase: usize, worker: usize, workers: usize, memory: &MemoryPlan) {
        let phases = self.phases.get(phase..).unwrap_or_default();
        if let Some(ops) = phases.iter().find(|ops| ops.iter().any(ScheduledOp::reads_cold_memory)) {
            // Such a phase has one operation, or three of the same size.
            if let Some(op) = ops.get(worker * ops.len() / workers) {
                op.prefetch(worker * ops.len() % workers, workers, memory);
            }
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! An operation of a schedule: which slots it reads and writes, and how it is divided into tasks.

mod packing;
mod run;

use std::sync::Arc;

use self::packing::{packing_split, prologue_parts};
use super::{
    FusedOp, OutputShape, ProgramError,
    memory_plan::{MemoryPlan, Slot},
    thread_local_lhs::ThreadLocalLhs,
};
use crate::{
    fused_op::{MAX_INPUTS, MAX_SCALARS, Signature, Split},
    gemm::{LhsLayout, PackedWeights, row_groups},
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
    /// Has no tasks if there are few rows: then each thread runs it for itself.
    Prologue(Prologue),
}

/// An operation on the first input before.
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
    is_row_wise: bool,
    /// Lengths of the inputs of one stream in the last run.
    lengths: Vec<usize>,
    /// How it is divided for the lengths of the last run: all streams if it is row-wise, otherwise each of them.
    split: Split,
    /// Streams in the last run.
    streams: usize,
    /// Whether each thread runs the prologue for itself.
    runs_prologue: bool,
}

impl ScheduledOp {
    pub(super) fn new(
        kernel: Kernel,
        signature: Signature,
        inputs: Vec<Slot>,
        scalars: Vec<usize>,
        outputs: Vec<Slot>,
    ) -> Self {
        let is_row_wise = match &kernel {
            Kernel::Fused { op, .. } => op.is_row_wise(),
            Kernel::PackLhs(_) | Kernel::Prologue(_) => true,
        };
        Self {
            kernel,
            signature,
            inputs,
            scalars,
            outputs,
            is_row_wise,
            lengths: Vec::new(),
            split: Split::Rows { rows: 0, tasks: 0 },
            streams: 1,
            runs_prologue: false,
        }
    }

    /// Whether it may read a slot.
    pub(super) fn reads(&self, slot: Slot) -> bool {
        let prologue = match &self.kernel {
            Kernel::Fused { prologue, .. } => prologue.as_ref(),
            _ => None,
        };
        self.inputs.contains(&slot) || prologue.is_some_and(|prologue| prologue.input == slot)
    }

    /// The value that it updates in place, if the result is `output`.
    pub(super) fn in_place_input(&self, output: usize) -> Option<usize> {
        let mut pairs = self.signature.in_place.iter();
        let found = pairs.find(|pair| self.outputs[pair.1].value() == output)?;
        Some(self.inputs[found.0].value())
    }

    /// If it writes byte planes: the number of the value, and its values per row.
    pub(super) fn byte_planes(&self) -> Option<(usize, usize)> {
        match &self.kernel {
            Kernel::PackLhs(weights) if weights.lhs_layout() == LhsLayout::BytePlanes => {
                Some((self.outputs[0].value(), weights.k()))
            }
            _ => None,
        }
    }

    /// See [`FusedOp::is_row_wise`].
    pub(super) fn is_row_wise(&self) -> bool {
        self.is_row_wise
    }

    /// Infers the lengths of its outputs from those of its inputs, for one stream.
    pub(super) fn infer(&mut self, memory: &mut MemoryPlan) -> Result<(), ProgramError> {
        self.lengths.clear();
        self.lengths
            .extend(self.inputs.iter().map(|slot| memory.length(slot.value())));
        let lengths = &self.lengths;
        for (&length, width) in lengths.iter().zip(&self.signature.inputs) {
            if width.is_some_and(|width| width == 0 || !length.is_multiple_of(width)) {
                return Err(ProgramError::WidthMismatch);
            }
        }
        let op = match &self.kernel {
            Kernel::Fused { op, .. } => op,
            Kernel::Prologue(Prologue { op, .. }) => {
                memory.reserve_thread_local(lengths[0]);
                op
            }
            // The same value in another layout.
            Kernel::PackLhs(_) => return Ok(()),
        };
        let shapes = op.infer(lengths)?;
        let is_consistent = |(shape, &width): (&OutputShape, &usize)| match *shape {
            OutputShape::Rows { width: inner, .. } => width > 0 && inner.is_multiple_of(width),
            OutputShape::Like(input) => input < lengths.len(),
        };
        let outputs = &self.signature.outputs;
        if shapes.len() != outputs.len() || !shapes.iter().zip(outputs).all(is_consistent) {
            return Err(ProgramError::InvalidOp);
        }
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

    /// Divides it into tasks for a batch of `streams` streams, after [`infer`](Self::infer).
    pub(super) fn split(&mut self, streams: usize, workers: usize) -> Result<(), ProgramError> {
        self.streams = streams;
        let width = self.signature.outputs[0];
        let first_length = self.lengths.first().copied().unwrap_or_default();
        let length = streams.checked_mul(first_length).ok_or(ProgramError::ShapeMismatch)?;
        self.runs_prologue = match &self.kernel {
            Kernel::Fused {
                weights: Some(weights),
                prologue: Some(_),
                ..
            } => prologue_parts(length / weights.k(), weights.k(), workers) == 0,
            _ => false,
        };
        self.split = match &self.kernel {
            Kernel::Fused { op, .. } if self.is_row_wise && streams > 1 => {
                let mut lengths = [0; MAX_INPUTS];
                for (all, length) in lengths.iter_mut().zip(&self.lengths) {
                    *all = streams.checked_mul(*length).ok_or(ProgramError::ShapeMismatch)?;
                }
                op.split(&lengths[..self.lengths.len()], workers)
            }
            Kernel::Fused { op, .. } => op.split(&self.lengths, workers),
            Kernel::PackLhs(weights) => packing_split(weights, length / width, workers),
            Kernel::Prologue(_) => {
                let rows = length / width;
                let tasks = row_groups(rows).count() * prologue_parts(rows, width, workers);
                Split::Rows { rows: tasks, tasks }
            }
        };
        match self.split.is_valid(width) {
            true => Ok(()),
            false => Err(ProgramError::InvalidOp),
        }
    }

    pub(super) fn accepts_scalars(&self, memory: &MemoryPlan) -> bool {
        let Kernel::Fused { op, .. } = &self.kernel else {
            return true;
        };
        (0..memory.streams()).all(|stream| {
            let mut scalars = [0; MAX_SCALARS];
            for (scalar, value) in scalars.iter_mut().zip(&self.scalars) {
                *scalar = memory.scalar(*value, stream);
            }
            op.accepts_scalars(&scalars[..self.scalars.len()], &self.lengths)
        })
    }

    /// Tasks of all streams. If it is not row-wise, the first task of each stream comes first, then the second of each: they
    /// read the same constants, such as the positions of a head.
    pub(super) fn task_count(&self) -> usize {
        match self.is_row_wise {
            true => self.split.tasks(),
            false => self.streams * self.split.tasks(),
        }
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
            let mut task = worker * self.task_count() / workers;
            let mut stream = 0;
            if !self.is_row_wise {
                (stream, task) = (task % self.streams, task / self.streams);
            }
            for (address, slot) in inputs.iter_mut().zip(&self.inputs) {
                *address = memory.stream_or_null(*slot, stream).start.cast_const();
            }
            let first = self.split.range(task, self.signature.outputs[0]).start;
            op.prefetch(first, &inputs, &self.lengths);
        }
    }
}

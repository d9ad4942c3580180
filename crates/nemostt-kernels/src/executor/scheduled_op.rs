// SPDX-License-Identifier: MIT OR Apache-2.0

//! An operation of a schedule: which slots it reads and writes, and how it is divided into tasks.

mod packing;

use std::sync::Arc;

use self::packing::{packing_split, prologue_parts};
use super::{
    FusedOp, OutputShape, ProgramError,
    memory_plan::{MemoryPlan, Slot},
    thread_local_lhs::ThreadLocalLhs,
};
use crate::{
    fused_op::{MAX_INPUTS, MAX_SCALARS, RawSlice, Signature, Split, Task, TaskOutput},
    gemm::{Lhs, LhsLayout, PackedLhs, PackedWeights, row_groups},
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

    /// Runs task `index`.
    ///
    /// # Safety
    /// `index` must be below [`task_count`](Self::task_count), and each task must run only once per run. The run's inputs
    /// and outputs must be valid. Meanwhile, nothing may write what the operation reads, and only its other tasks may access
    /// what it writes.
    #[allow(unsafe_code)]
    pub(super) unsafe fn run_task(&self, index: usize, memory: &MemoryPlan, thread_local: &mut ThreadLocalLhs) {
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

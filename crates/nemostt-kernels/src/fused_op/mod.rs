// SPDX-License-Identifier: MIT OR Apache-2.0

//! The interface between the [executor](crate::executor) and the operations of its programs.
//!
//! An operation states its inputs and outputs, infers the shapes of the outputs, says how its work is divided into tasks,
//! and runs a [`Task`]. The executor decides when tasks run, on which thread, and where tensors are stored. It also gives
//! each task its own part of the outputs, so that an operation needs no unsafe code.

mod task;

use std::{fmt::Debug, ops::Range, sync::Arc};

pub use self::task::{InPlace, Task};
pub(crate) use self::task::{RawSlice, TaskOutput};
use crate::gemm::{PackedLhsMut, PackedWeights};

/// Maximum number of tensors that an operation reads.
pub const MAX_INPUTS: usize = 6;

/// Maximum number of scalars that an operation reads.
pub const MAX_SCALARS: usize = 1;

/// Columns that are whole vectors on every processor: a block for [`Split::Columns`].
pub(crate) const VECTOR_BLOCK: usize = 32;

/// Maximum number of tensors that an operation writes.
pub const MAX_OUTPUTS: usize = 3;

/// An operation of a program. All tensors are rows of float32. Methods return the same result whenever they are called with
/// the same arguments.
pub trait FusedOp: Debug + Send + Sync {
    /// Number and widths of inputs and outputs.
    fn signature(&self) -> Signature;

    /// Shapes of all outputs for inputs of these lengths, each of which is a multiple of its width in the signature. The
    /// result is reused until lengths change.
    ///
    /// # Errors
    /// [`ProgramError::ShapeMismatch`] if the inputs do not match each other or the operation.
    fn infer(&self, lengths: &[usize]) -> Result<Vec<OutputShape>, ProgramError>;

    /// Whether a row of an output depends on no other row than that of the same index of each input. Then a batch of several
    /// streams is one call with the rows of all of them. Otherwise each stream is a call of its own, in the same phase. Only
    /// for operations without scalars and without tensors that are updated in place.
    fn is_row_wise(&self) -> bool {
        false
    }

    /// Whether these are valid values of its scalars, for inputs of the lengths that [`infer`](Self::infer) has accepted.
    /// Called for each run.
    fn accepts_scalars(&self, _scalars: &[usize], _lengths: &[usize]) -> bool {
        true
    }

    /// How the work on inputs of these lengths is divided among `workers` threads. Must not affect the result. Called after
    /// [`infer`](Self::infer) has accepted the lengths; for a batch of a [row-wise](Self::is_row_wise) operation, they are
    /// those of all streams together.
    fn split(&self, lengths: &[usize], workers: usize) -> Split;

    /// Runs a task, which must write its part of all outputs.
    fn run(&self, task: &mut Task<'_>);

    /// Whether it is worth to run a program of this operation alone on several threads. Waking them takes longer than a
    /// few microseconds of work.
    fn is_parallel(&self) -> bool {
        true
    }

    /// Weights of which the first input is the left-hand side. It is then provided in their layout, as [`Task::lhs`].
    fn weights(&self) -> Option<&Arc<PackedWeights>> {
        None
    }

    /// Whether it can write its first output in packed layout if it has this number of inputs: see [`Task::target`].
    fn can_pack_output(&self, _inputs: usize) -> bool {
        false
    }

    /// The operation as a prologue of the GEMMs that read its output. Only for operations with one input and one output of
    /// the same width.
    fn as_prologue(&self) -> Option<&dyn Prologue> {
        None
    }

    /// Whether a task starts by reading memory that no other operation has read in this run, such as weights.
    fn reads_cold_memory(&self) -> bool {
        false
    }

    /// Prefetches what a task reads first, by the first row or column that it writes. `inputs` are the addresses of the
    /// inputs, which may be invalid, and `lengths` their lengths.
    fn prefetch(&self, _first: usize, _inputs: &[*const f32], _lengths: &[usize]) {}
}

/// An operation on single rows that is so cheap that each thread computes it for itself before a GEMM reads the result, if
/// there are few rows. That takes less time than waiting for the other threads and reading what they have written.
pub trait Prologue {
    /// Writes the output's columns for `input`, \[rows, k\], in packed layout. The first column is a multiple of 32.
    ///
    /// # Panics
    /// If the sizes differ.
    fn run_packed(&self, input: &[f32], output: PackedLhsMut<'_>);
}

/// Inputs and outputs of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Width of the rows of each input tensor; `None` if [`FusedOp::infer`] checks it.
    pub inputs: Vec<Option<usize>>,
    /// How many of the last inputs may be missing.
    pub optional: usize,
    /// Number of scalars, which follow the tensors.
    pub scalars: usize,
    /// Inputs and outputs that may be the same tensor: the operation updates it. No other operation may read it. The next run
    /// may be the same one again, so an operation should not overwrite what it reads.
    pub in_place: Vec<(usize, usize)>,
    /// Width of the rows of each output.
    pub outputs: Vec<usize>,
}

impl Signature {
    /// Tensors only, all required.
    pub fn new<const I: usize, const O: usize>(inputs: [Option<usize>; I], outputs: [usize; O]) -> Self {
        Self {
            inputs: inputs.into(),
            optional: 0,
            scalars: 0,
            in_place: Vec::new(),
            outputs: outputs.into(),
        }
    }
}

/// Shape of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputShape {
    /// \[rows, width\].
    Rows {
        /// Number of rows.
        rows: usize,
        /// Values per row.
        width: usize,
    },
    /// The shape of the input with this number.
    Like(usize),
}

/// How an operation is divided into tasks. Each task writes its own part of the outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Whole rows of the first output.
    Rows {
        /// Number of rows.
        rows: usize,
        /// Number of tasks, at most `rows`.
        tasks: usize,
    },
    /// Columns of all rows, in blocks. A task boundary within a SIMD vector would change the order in which values are
    /// summed, so blocks are whole vectors.
    Columns {
        /// Columns per block; the last block may have fewer.
        block: usize,
        /// Number of tasks, at most the number of blocks.
        tasks: usize,
    },
}

impl Split {
    /// `rows` rows, shared by as many of `workers` workers as have one.
    pub fn by_rows(rows: usize, workers: usize) -> Self {
        Self::Rows {
            rows,
            tasks: rows.min(workers),
        }
    }

    /// Whether each row or column, of `width` columns, belongs to a task.
    pub(crate) fn is_valid(self, width: usize) -> bool {
        match self {
            Self::Rows { rows, tasks } => tasks <= rows && (tasks > 0 || rows == 0),
            Self::Columns { block, tasks } => block > 0 && (1..=width.div_ceil(block)).contains(&tasks),
        }
    }

    /// Number of tasks.
    pub fn tasks(self) -> usize {
        match self {
            Self::Rows { tasks, .. } | Self::Columns { tasks, .. } => tasks,
        }
    }

    /// The rows of task `task`, or its columns of rows of `width` values. Those of different tasks are disjoint.
    pub(crate) fn range(self, task: usize, width: usize) -> Range<usize> {
        let share = |count: usize, tasks: usize| task * count / tasks..(task + 1) * count / tasks;
        match self {
            Self::Rows { rows, tasks } => share(rows, tasks),
            Self::Columns { block, tasks } => {
                let blocks = share(width.div_ceil(block), tasks);
                width.min(blocks.start * block)..width.min(blocks.end * block)
            }
        }
    }
}

/// Why a program is invalid, or cannot run with these inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum ProgramError {
    #[error("an operation of a program reads or writes a value that does not exist, or is written twice")]
    UnknownValue,
    #[error("an operation of a program has a wrong number of inputs or outputs")]
    Arity,
    #[error("an input of an operation has rows of another width than the operation expects")]
    WidthMismatch,
    #[error("GEMMs of a program need the same rows in different layouts")]
    LayoutConflict,
    #[error("a value that an operation updates in place is read by another operation")]
    InPlaceConflict,
    #[error("an operation of a program contradicts its own signature")]
    InvalidOp,
    #[error("the shapes of the inputs of an operation do not match")]
    ShapeMismatch,
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Programs: sequences of [operations](crate::fused_op) that a [team] of threads runs from start to end.
//!
//! Operations that do not depend on each other form one phase: the projections to queries, keys and values are three GEMMs
//! of the same rows, which are packed once. Between phases, threads only check a counter. ONNX Runtime takes 4 µs to find
//! the next node, allocate its outputs and wake its threads, three hundred times per step.
//!
//! | module | |
//! |---|---|
//! | [`scheduler`] | turns calls into phases, and decides in which layout values are stored |
//! | [`schedule`] | the phases, and how to run a task of them |
//! | [`memory_plan`] | where values are stored, and which buffers are reused |
//! | [`team`] | distributes the tasks of a phase among threads |
//! | [`stream_io`] | inputs and outputs of a stream, and runs on them |
//! | [`worker_threads`] | threads for a team, where ONNX Runtime has none |
//! | [`fault`] | what tests make fail |

mod consumers;
mod fault;
mod memory_plan;
mod schedule;
mod scheduled_op;
mod scheduler;
mod stream_io;
mod team;
#[cfg(test)]
mod tests;
mod thread_local_lhs;
mod worker_threads;

use std::{cell::Cell, sync::Arc};

#[cfg(any(test, feature = "fuzzing"))]
pub use self::fault::{Fault, with_fault};
use self::{
    fault::Injected,
    memory_plan::MemoryPlan,
    schedule::Schedule,
    team::{Role, Team},
};
pub use self::{
    stream_io::{InputSpec, StreamIo},
    worker_threads::WorkerThreads,
};
use super::fused_op::{FusedOp, OutputShape, ProgramError};

/// A call of an operation in a program. Values are numbered: first the program's inputs, then the outputs of its calls.
#[derive(Debug, Clone)]
pub struct OpCall {
    /// The operation.
    pub op: Op,
    /// Numbers of the values that it reads: tensors, then scalars.
    pub inputs: Vec<usize>,
    /// Numbers of the values that it writes.
    pub outputs: Vec<usize>,
}

/// What a call does.
#[derive(Debug, Clone)]
pub enum Op {
    /// Runs an operation.
    Fused(Arc<dyn FusedOp>),
    /// Views the same values as rows of this width.
    Reshape(usize),
}

impl<T: FusedOp + 'static> From<T> for Op {
    fn from(op: T) -> Self {
        Self::Fused(Arc::new(op))
    }
}

/// An input of a run.
#[derive(Debug, Clone, Copy)]
pub enum Input {
    /// Values, and the width of a row.
    Tensor(*const [f32], usize),
    /// A number, such as the head of a ring buffer.
    Scalar(usize),
}

/// See the [module](self).
pub struct Program {
    schedule: Schedule,
    memory: MemoryPlan,
    team: Team,
    /// Numbers of the values that are outputs.
    outputs: Vec<usize>,
    /// For each output, the input that it may share memory with, because an operation updates it in place.
    in_place: Vec<Option<usize>>,
    /// Tasks per phase.
    task_counts: Vec<usize>,
    /// That of the last batch of streams.
    fault: Injected,
}

impl Program {
    /// A program of `calls` with `inputs` inputs, for `workers` threads. Each call reads only values before its own. The
    /// values `outputs` are the outputs of the program.
    ///
    /// # Errors
    /// The calls are inconsistent.
    pub fn new(calls: Vec<OpCall>, inputs: usize, outputs: &[usize], workers: usize) -> Result<Self, ProgramError> {
        let team = Team::new(workers);
        let schedule = scheduler::schedule(calls, inputs, outputs)?;
        Ok(Self {
            memory: MemoryPlan::new(&schedule, inputs, outputs, team.workers()),
            team,
            outputs: outputs.into(),
            in_place: outputs
                .iter()
                .map(|&output| schedule.in_place_input(output).filter(|&input| input < inputs))
                .collect(),
            task_counts: Vec::new(),
            fault: Injected::default(),
            schedule,
        })
    }

    /// Runs the program. `input` returns an input by its number; `output` returns where to write an output of the program,
    /// by its index and shape, where [`OutputShape::Like`] refers to an input of the program; `parallel_for` calls a
    /// function for all indices below a count, on any threads, and returns after the last call. It is not used by a program
    /// for one worker. Does not allocate if the lengths of inputs are those of the last run.
    ///
    /// # Errors
    /// Those of the three functions, and [`ProgramError`].
    ///
    /// # Safety
    /// What `input` and `output` return must be valid, initialized, and not be accessed in any other way, until this function
    /// returns. Outputs must not overlap inputs or each other, except that a tensor that an operation updates [in
    /// place](crate::fused_op::Signature::in_place) may be both.
    #[allow(unsafe_code)]
    pub unsafe fn run<E: From<ProgramError>>(
        &mut self,
        mut input: impl FnMut(usize) -> Result<Input, E>,
        mut output: impl FnMut(usize, OutputShape) -> Result<*mut [f32], E>,
        parallel_for: impl FnOnce(usize, &(dyn Fn(usize) + Sync)) -> Result<(), E>,
    ) -> Result<(), E> {
        // SAFETY: the caller's guarantee.
        unsafe {
            self.run_batch(
                1,
                |_, number| input(number),
                |_, index, shape| output(index, shape),
                parallel_for,
            )
        }
    }

    /// Runs the program for a batch of `streams` streams, with inputs of the same lengths each. `input` and `output` get the
    /// index of the stream first; otherwise as [`run`](Self::run). A stream gets, bit for bit, what it would get alone.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    ///
    /// # Safety
    /// As for [`run`](Self::run), and tensors of different streams must not overlap, if one of them is an output.
    #[allow(unsafe_code)]
    pub unsafe fn run_batch<E: From<ProgramError>>(
        &mut self,
        streams: usize,
        mut input: impl FnMut(usize, usize) -> Result<Input, E>,
        mut output: impl FnMut(usize, usize, OutputShape) -> Result<*mut [f32], E>,
        parallel_for: impl FnOnce(usize, &(dyn Fn(usize) + Sync)) -> Result<(), E>,
    ) -> Result<(), E> {
        if streams == 0 {
            return Ok(());
        }
        self.memory.start(streams);
        for stream in 0..streams {
            for &number in self.schedule.inputs() {
                set_input(
                    &self.schedule,
                    &mut self.memory,
                    (stream, number),
                    input(stream, number)?,
                )?;
            }
        }
        self.prepare(streams)?;
        for stream in 0..streams {
            for (index, &value) in self.outputs.iter().enumerate() {
                let shape = self.memory.shape(value);
                let output = output(stream, index, shape)?;
                if !self.memory.set_output(stream, (index, value), output) {
                    return Err(ProgramError::ShapeMismatch.into());
                }
            }
        }
        self.memory.invalidate_thread_local();
        if !self.schedule.accepts_scalars(&self.memory) {
            return Err(ProgramError::ShapeMismatch.into());
        }
        // SAFETY: inputs are valid, as the caller guarantees.
        unsafe { self.memory.gather() };
        self.team.reset();
        let (team, task_counts, schedule, memory) = (&self.team, &self.task_counts[..], &self.schedule, &self.memory);
        let fault = self.fault;
        let caller = thread_id();
        let work = |worker: usize| {
            // Otherwise this worker is running on another thread.
            let Some(mut thread_local) = memory.thread_local(worker) else {
                return;
            };
            let run_task = |phase: usize, task: usize| {
                // SAFETY: the team runs each task once, after all tasks of the phases before. Operations of a phase do not
                // write what others of the phase read or write: `MemoryPlan` reuses buffers between phases only. The caller
                // guarantees the rest.
                unsafe { schedule.run_task(phase, task, memory, &mut thread_local) };
                fault.check_task(task_counts, phase, task);
            };
            let role = match thread_id() == caller {
                true => Role::Caller,
                false => Role::Helper,
            };
            team.run(worker, role, task_counts, run_task, |next| {
                schedule.prefetch(next, worker, team.workers(), memory)
            });
        };
        match team.workers() {
            // Without waking other threads.
            1 => work(0),
            workers => parallel_for(workers, &work)?,
        }
        // SAFETY: outputs are valid, as the caller guarantees, and all tasks are done.
        unsafe { self.memory.scatter() };
        Ok(())
    }
}

impl Program {
    /// Tasks of the last run.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn task_count(&self) -> usize {
        self.task_counts.iter().sum()
    }

    /// Infers lengths, divides operations and allocates buffers, unless that was done for the same inputs and streams.
    fn prepare(&mut self, streams: usize) -> Result<(), ProgramError> {
        let lengths_changed = self.memory.lengths_changed();
        if lengths_changed {
            self.schedule.infer(&mut self.memory)?;
        }
        if lengths_changed || self.memory.streams_changed() {
            // Until `allocate`: an operation may be divided for other streams than the one after it.
            self.memory.forget_streams();
            self.schedule.split(streams, self.team.workers())?;
            if !self.memory.allocate() {
                return Err(ProgramError::ShapeMismatch);
            }
            self.task_counts.clear();
            self.task_counts.extend(self.schedule.task_counts());
        }
        Ok(())
    }
}

/// Sets input `number` of stream `stream`.
fn set_input(
    schedule: &Schedule,
    memory: &mut MemoryPlan,
    (stream, number): (usize, usize),
    input: Input,
) -> Result<(), ProgramError> {
    if !schedule.accepts(number, input) {
        return Err(ProgramError::WidthMismatch);
    }
    match memory.set_input(stream, number, input) {
        true => Ok(()),
        false => Err(ProgramError::ShapeMismatch),
    }
}

/// Identifies a running thread. Unlike this, `std::thread::current` allocates on threads that std has not created.
fn thread_id() -> usize {
    thread_local!(static HERE: Cell<u8> = const { Cell::new(0) });
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

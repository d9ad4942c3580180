// SPDX-License-Identifier: MIT OR Apache-2.0

//! Operations that follow each other, done by a [`team`] of threads that stays together from the first to the last.
//!
//! What does not depend on each other is one phase: queries, keys and values are three products of the same rows, which are
//! made ready once. What comes between two phases is a glance at a counter, where ONNX Runtime looks for the next node, asks
//! for its outputs and calls its threads together: 4 µs, three hundred times in a step.
//!
//! [`schedule`] says what is done and in which order, [`task`] does it, [`memory_plan`] where results are kept until nobody needs them any more. Rows
//! that only products read go [packed](super::gemm::PackedLhs) to where those want them, if they can.

mod memory_plan;
mod op;
mod schedule;
mod task;
mod team;
#[cfg(test)]
mod tests;

use std::{cell::Cell, sync::Arc};

use self::{
    memory_plan::MemoryPlan,
    schedule::Schedule,
    team::{Role, Team},
};
use super::{
    gemm::PackedWeights, glu_depthwise_conv::GluDepthwiseConv, layer_norm::LayerNorm,
    rel_pos_attention::RelPosAttention, strided_conv::StridedConv,
};

/// A call of an operation in a program. Values are numbered: first the program's inputs, then the outputs of the calls in order.
#[derive(Debug, Clone)]
pub struct OpCall {
    /// The operation.
    pub op: Op,
    /// Numbers of the values it reads, in the order that [`Op`] states.
    pub inputs: Vec<usize>,
    /// Numbers of the values it writes.
    pub outputs: Vec<usize>,
}

/// What a call does. All values are rows of float32; their widths are what the operations say.
#[derive(Debug, Clone)]
pub enum Op {
    /// Inputs: rows; what is added to the result, if there is a second one.
    PackedMatMul(Arc<PackedWeights>),
    /// Inputs: see [`AttentionInputs`](super::rel_pos_attention::AttentionInputs): queries, cached and new keys, cached and new values, mask, and
    /// behind them the oldest, which is no row but a number. Outputs: rows, the next caches of keys and of values.
    RelPosAttention(Box<RelPosAttention>),
    /// Inputs: rows, cache. Outputs: rows, next cache.
    GluDepthwiseConv(GluDepthwiseConv),
    /// Inputs: rows.
    LayerNorm(LayerNorm),
    /// Inputs: frames, mask.
    StridedConv(StridedConv),
    /// What a joint does with encoder frames and a prediction. Inputs: rows of so many values, one row. See
    /// [`add_relu`](super::joint_add_relu::add_relu).
    JointAddRelu(usize),
    /// The gates of an LSTM layer with so many units. Inputs: what its input and what its state give them, cells. Outputs: next state,
    /// next cells. All are one row.
    LstmCell(usize),
    /// Other rows of the same values, so wide.
    Reshape(usize),
}

/// An input of a run.
#[derive(Debug, Clone, Copy)]
pub enum Input {
    /// Where its values are, and the width of a row.
    Tensor(*const [f32], usize),
    /// A number, such as the head of a ring.
    Scalar(usize),
}

/// Sizes of an output of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputShape {
    /// \[rows, width\].
    Rows {
        /// Number of rows.
        rows: usize,
        /// Values of a row.
        width: usize,
    },
    /// The shape of the input with this number.
    Like(usize),
}

/// Why a program cannot be built or run: its calls are inconsistent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say what they mean
pub enum ProgramError {
    #[error("a chain names values that it does not have")]
    UnknownValue,
    #[error("an operation of a chain has not all inputs and outputs")]
    Arity,
    #[error("rows that an operation of a chain gets are of another width than it needs")]
    WidthMismatch,
    #[error("products of a chain want the same rows in two ways")]
    LayoutConflict,
    #[error("the inputs of an operation of a chain do not fit each other")]
    ShapeMismatch,
}

/// See the [module](self).
pub struct Program {
    schedule: Schedule,
    memory: MemoryPlan,
    team: Team,
    /// Which values are outputs.
    outputs: Vec<usize>,
    /// Pieces of each phase.
    task_counts: Vec<usize>,
}

impl Program {
    /// A chain of `calls`, each of which takes what is there before it, with so many inputs, and with the values `outputs` as its
    /// outputs, for `workers` threads.
    ///
    /// # Errors
    /// Why there can be no such chain.
    pub fn new(calls: Vec<OpCall>, inputs: usize, outputs: &[usize], workers: usize) -> Result<Self, ProgramError> {
        let team = Team::new(workers);
        let schedule = Schedule::new(calls, inputs, outputs, team.workers())?;
        Ok(Self {
            memory: MemoryPlan::new(&schedule, inputs, outputs, team.workers()),
            team,
            outputs: outputs.into(),
            task_counts: Vec::new(),
            schedule,
        })
    }

    /// Runs the chain. `input` gives what an input is, `output` room for an output of these sizes, and `parallel_for` calls what it gets
    /// with each number below its first argument, on as many threads as it likes, and waits for all of these calls. Nothing is
    /// allocated if sizes are those of the last run.
    ///
    /// # Errors
    /// What those three say, and [`ProgramError`] as one of theirs.
    ///
    /// # Safety
    /// What `input` and `output` give must be there, and nobody else may write it nor read an output, until this returns. No
    /// output may have a value in common with an input or another output, but for the next cache of an attention, which may
    /// be where the cache is.
    #[allow(unsafe_code)]
    pub unsafe fn run<E: From<ProgramError>>(
        &mut self,
        mut input: impl FnMut(usize) -> Result<Input, E>,
        mut output: impl FnMut(usize, OutputShape) -> Result<*mut [f32], E>,
        parallel_for: impl FnOnce(usize, &(dyn Fn(usize) + Sync)) -> Result<(), E>,
    ) -> Result<(), E> {
        self.memory.forget_places(&self.outputs);
        for &number in &self.schedule.reads {
            let input = input(number)?;
            if !self.schedule.accepts_width(number, input) {
                return Err(ProgramError::WidthMismatch.into());
            }
            self.memory.set_input(number, input);
        }
        self.memory.infer_lengths(&self.schedule)?;
        for (index, &value) in self.outputs.iter().enumerate() {
            let sizes = self.schedule.output_shape(value, &self.memory)?;
            if !self.memory.set_output(value, output(index, sizes)?) {
                return Err(ProgramError::ShapeMismatch.into());
            }
        }
        self.memory.invalidate_thread_local();
        self.schedule.check(&self.memory)?;
        self.task_counts.clear();
        let phases = self.schedule.phases();
        self.task_counts
            .extend(phases.map(|schedule| schedule.iter().map(|step| step.task_count(&self.memory)).sum::<usize>()));
        self.team.reset();
        let (team, task_count, schedule, memory) = (&self.team, &self.task_counts[..], &self.schedule, &self.memory);
        let caller = this_thread();
        parallel_for(team.workers(), &|worker| {
            // Else it is called on two threads for one member, and what is this one's is done.
            let Some(mut own) = memory.own(worker) else { return };
            let work = |phase: usize, mut task: usize| {
                for step in schedule.phase(phase) {
                    let task_count = step.task_count(memory);
                    if task < task_count {
                        // SAFETY: the team does each piece once, and none before the last phase is done; no step of a phase
                        // writes what another one of the same phase reads or writes: `MemoryPlan` sees to it. What inputs and
                        // outputs were set to is there, as the caller promises.
                        return unsafe { step.run_task(task, memory, &mut own) };
                    }
                    task -= task_count;
                }
            };
            let role = match this_thread() == caller {
                true => Role::Caller,
                false => Role::Helper,
            };
            team.run(worker, role, task_count, work, |next| {
                schedule.prefetch(next, worker, team.workers(), memory)
            });
        })
    }
}

/// Tells this thread from all others that live. `std::thread::current` would allocate on a thread that std has not made.
fn this_thread() -> usize {
    thread_local!(static HERE: Cell<u8> = const { Cell::new(0) });
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

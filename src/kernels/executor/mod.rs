// SPDX-License-Identifier: MIT OR Apache-2.0

//! Operations that follow each other, done by a [`team`] of threads that stays together from the first to the last.
//!
//! What does not depend on each other is one phase: queries, keys and values are three products of the same rows, which are
//! made ready once. What comes between two phases is a glance at a counter, where ONNX Runtime looks for the next node, asks
//! for its outputs and calls its threads together: 4 µs, three hundred times in a step.
//!
//! [`schedule`] says what is done and in which order, [`task`] does it, [`memory_plan`] where results are kept until nobody needs them any more. Rows
//! that only products read go [turned](super::gemm::Turned) to where those want them, if they can.

mod memory_plan;
mod op;
mod schedule;
mod task;
mod team;
#[cfg(test)]
mod tests;

use std::{cell::Cell, sync::Arc};

use self::{
    memory_plan::Buffers,
    schedule::Steps,
    team::{Role, Team},
};
use super::{
    gemm::Weights, glu_depthwise_conv::Convolution, layer_norm::Normalisation, rel_pos_attention::Attention,
    strided_conv::Subsampling,
};

/// An operation of a chain. Values have numbers: first the chain's inputs, then what calls give.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) work: Work,
    pub(crate) inputs: Vec<usize>,
    pub(crate) outputs: Vec<usize>,
}

/// What a call does. All values are rows of float32; their widths are what the operations say.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    /// Inputs: rows; what is added to the result, if there is a second one.
    Product(Arc<Weights>),
    /// Inputs: see [`attention::Step`](super::rel_pos_attention::Step): queries, cached and new keys, cached and new values, mask, and
    /// behind them the oldest, which is no row but a number. Outputs: rows, the next caches of keys and of values.
    Attention(Box<Attention>),
    /// Inputs: rows, cache. Outputs: rows, next cache.
    Convolution(Convolution),
    Normalisation(Normalisation),
    /// Inputs: frames, mask.
    Subsampling(Subsampling),
    /// What a joint does with encoder frames and a prediction. Inputs: rows of so many values, one row. See
    /// [`meet`](super::joint_add_relu::meet).
    Meeting(usize),
    /// The gates of an LSTM layer with so many units. Inputs: what its input and what its state give them, cells. Outputs: next state,
    /// next cells. All are one row.
    Gates(usize),
    /// Other rows of the same values, so wide.
    Reshape(usize),
}

/// An input of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input {
    /// Where values are, and how wide their rows are.
    Floats(*const [f32], usize),
    Number(usize),
}

/// Sizes of an output of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sizes {
    Rows {
        rows: usize,
        width: usize,
    },
    /// Those of an input.
    Like(usize),
}

/// Why a chain cannot be made or run: what a graph says of it makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misfit {
    #[error("a chain names values that it does not have")]
    Numbers,
    #[error("an operation of a chain has not all inputs and outputs")]
    Missing,
    #[error("rows that an operation of a chain gets are of another width than it needs")]
    Width,
    #[error("products of a chain want the same rows in two ways")]
    Forms,
    #[error("the inputs of an operation of a chain do not fit each other")]
    Sizes,
}

/// See the [module](self).
pub(crate) struct Chain {
    steps: Steps,
    buffers: Buffers,
    team: Team,
    /// Which values are outputs.
    outputs: Vec<usize>,
    /// Pieces of each phase.
    pieces: Vec<usize>,
}

impl Chain {
    /// A chain of `calls`, each of which takes what is there before it, with so many inputs, and with the values `outputs` as its
    /// outputs, for `members` threads.
    ///
    /// # Errors
    /// Why there can be no such chain.
    pub(crate) fn new(calls: Vec<Call>, inputs: usize, outputs: &[usize], members: usize) -> Result<Self, Misfit> {
        let team = Team::new(members);
        let steps = Steps::new(calls, inputs, outputs, team.members())?;
        Ok(Self {
            buffers: Buffers::new(&steps, inputs, outputs, team.members()),
            team,
            outputs: outputs.into(),
            pieces: Vec::new(),
            steps,
        })
    }

    /// Runs the chain. `input` gives what an input is, `output` room for an output of these sizes, and `together` calls what it gets
    /// with each number below its first argument, on as many threads as it likes, and waits for all of these calls. Nothing is
    /// allocated if sizes are those of the last run.
    ///
    /// # Errors
    /// What those three say, and [`Misfit`] as one of theirs.
    ///
    /// # Safety
    /// What `input` and `output` give must be there, and nobody else may write it nor read an output, until this returns. No
    /// output may have a value in common with an input or another output, but for the next cache of an attention, which may
    /// be where the cache is.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn run<E: From<Misfit>>(
        &mut self,
        mut input: impl FnMut(usize) -> Result<Input, E>,
        mut output: impl FnMut(usize, Sizes) -> Result<*mut [f32], E>,
        together: impl FnOnce(usize, &(dyn Fn(usize) + Sync)) -> Result<(), E>,
    ) -> Result<(), E> {
        self.buffers.forget_places(&self.outputs);
        for &number in &self.steps.reads {
            let input = input(number)?;
            if !self.steps.is_wide(number, input) {
                return Err(Misfit::Width.into());
            }
            self.buffers.set_input(number, input);
        }
        self.buffers.find_lengths(&self.steps)?;
        for (index, &value) in self.outputs.iter().enumerate() {
            let sizes = self.steps.sizes(value, &self.buffers)?;
            if !self.buffers.set_output(value, output(index, sizes)?) {
                return Err(Misfit::Sizes.into());
            }
        }
        self.buffers.forget_own();
        self.steps.check(&self.buffers)?;
        self.pieces.clear();
        let phases = self.steps.phases();
        self.pieces
            .extend(phases.map(|steps| steps.iter().map(|step| step.pieces(&self.buffers)).sum::<usize>()));
        self.team.gather();
        let (team, pieces, steps, buffers) = (&self.team, &self.pieces[..], &self.steps, &self.buffers);
        let caller = this_thread();
        together(team.members(), &|member| {
            // Else it is called on two threads for one member, and what is this one's is done.
            let Some(mut own) = buffers.own(member) else { return };
            let work = |phase: usize, mut piece: usize| {
                for step in steps.phase(phase) {
                    let pieces = step.pieces(buffers);
                    if piece < pieces {
                        // SAFETY: the team does each piece once, and none before the last phase is done; no step of a phase
                        // writes what another one of the same phase reads or writes: `Buffers` sees to it. What inputs and
                        // outputs were set to is there, as the caller promises.
                        return unsafe { step.work(piece, buffers, &mut own) };
                    }
                    piece -= pieces;
                }
            };
            let role = match this_thread() == caller {
                true => Role::Caller,
                false => Role::Helper,
            };
            team.work(member, role, pieces, work, |next| {
                steps.ask_for(next, member, team.members(), buffers)
            });
        })
    }
}

/// Tells this thread from all others that live. `std::thread::current` would allocate on a thread that std has not made.
fn this_thread() -> usize {
    thread_local!(static HERE: Cell<u8> = const { Cell::new(0) });
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! From the calls of a chain to steps in phases.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    Input, Op, OpCall, OutputShape, ProgramError,
    memory_plan::{MemoryPlan, Slot},
    op::OpKernel,
};
use crate::{
    gemm::{LhsLayout, PackedWeights},
    layer_norm::LayerNorm,
};

/// One step of a phase.
pub(super) struct ScheduledOp {
    pub(super) kernel: OpKernel,
    /// What it reads besides numbers.
    pub(super) inputs: Vec<Slot>,
    pub(super) outputs: Vec<Slot>,
}

impl ScheduledOp {
    pub(super) fn reads(&self) -> impl Iterator<Item = Slot> {
        self.inputs.iter().copied()
    }

    pub(super) fn writes(&self) -> impl Iterator<Item = Slot> {
        self.outputs.iter().copied()
    }
}

/// All steps of a chain.
pub(super) struct Schedule {
    /// By phases.
    phases: Vec<Vec<ScheduledOp>>,
    /// How many values there are.
    pub(super) values: usize,
    /// The inputs that a run reads.
    pub(super) reads: Vec<usize>,
    /// How wide the rows of inputs must be.
    widths: Vec<(usize, usize)>,
    /// What gives each output, as an index into its phase and into its outputs.
    producers: HashMap<usize, (usize, usize, usize)>,
}

/// What is known of a value while steps are made.
#[derive(Debug, Clone, Copy)]
struct ValueInfo {
    /// The value that it really is.
    root: usize,
    /// Width of its rows; `None`: an input, of which nothing is known.
    width: Option<usize>,
    /// The phase behind the one that writes it, and behind the one that makes it ready.
    phase: [Option<usize>; 2],
}

/// In which ways a value is read.
#[derive(Debug, Clone, Copy, Default)]
struct Consumers {
    rows: bool,
    turned: bool,
    digits: bool,
    /// How wide the rows are for which it is made ready.
    depth: Option<usize>,
}

impl Consumers {
    fn add(&mut self, layout: LhsLayout) {
        match layout {
            LhsLayout::RowMajor => self.rows = true,
            LhsLayout::Packed => self.turned = true,
            LhsLayout::BytePlanes => self.digits = true,
        }
    }

    fn only_packed(self) -> bool {
        self.turned && !self.rows && !self.digits
    }
}

/// A normalisation that each member does for itself.
#[derive(Clone)]
struct InlinedNorm {
    layer_norm: Arc<LayerNorm>,
    rows: Slot,
}

/// Makes steps of calls.
struct Scheduler {
    known: Vec<Option<ValueInfo>>,
    consumers: Vec<Consumers>,
    /// Normalisations that members do for themselves, by what they give, with what they take.
    own: HashMap<usize, InlinedNorm>,
    workers: usize,
    phases: Vec<Vec<ScheduledOp>>,
    widths: Vec<(usize, usize)>,
    /// Values that are one number.
    numbers: Vec<usize>,
}

impl Schedule {
    pub(super) fn new(
        calls: Vec<OpCall>,
        inputs: usize,
        outputs: &[usize],
        workers: usize,
    ) -> Result<Self, ProgramError> {
        let numbers = calls.iter().flat_map(|call| call.inputs.iter().chain(&call.outputs));
        let values = numbers.max().map_or(inputs, |&most| inputs.max(most.saturating_add(1)));
        // Each value is made once, so there are no more than inputs and what calls give.
        let made: usize = calls.iter().map(|call| call.outputs.len()).sum();
        if values > inputs + made {
            return Err(ProgramError::UnknownValue);
        }
        let input = |value: usize| ValueInfo {
            root: value,
            width: None,
            phase: [Some(0), None],
        };
        let mut scheduler = Scheduler {
            known: (0..values)
                .map(|value| (value < inputs).then(|| input(value)))
                .collect(),
            consumers: consumers(&calls, values, outputs)?,
            own: HashMap::new(),
            workers,
            phases: Vec::new(),
            widths: Vec::new(),
            numbers: Vec::new(),
        };
        let mut reads = Vec::new();
        for call in calls {
            scheduler.add(call, &mut reads)?;
        }
        let read = |number: &usize| {
            scheduler
                .phases
                .iter()
                .flatten()
                .any(|step| step.reads().any(|p| p.value() == *number))
        };
        if scheduler.numbers.iter().any(|number| *number >= inputs || read(number)) {
            return Err(ProgramError::UnknownValue);
        }
        reads.retain(|&value| value < inputs);
        reads.sort_unstable();
        reads.dedup();
        let mut producers = HashMap::new();
        for (phase, steps) in scheduler.phases.iter().enumerate() {
            for (index, step) in steps.iter().enumerate() {
                for (number, slot) in step.writes().enumerate() {
                    if let Slot::Plain(value) = slot {
                        producers.insert(value, (phase, index, number));
                    }
                }
            }
        }
        let mut seen = HashSet::new();
        // Each has one place.
        let mut are_made = outputs
            .iter()
            .map(|output| producers.contains_key(output) && seen.insert(output));
        match are_made.all(|is_made| is_made) {
            true => Ok(Self {
                phases: scheduler.phases,
                values,
                reads,
                widths: scheduler.widths,
                producers,
            }),
            false => Err(ProgramError::UnknownValue),
        }
    }

    /// Whether an input is as wide as it must be.
    pub(super) fn accepts_width(&self, number: usize, input: Input) -> bool {
        let mut needed = self.widths.iter().filter(|(value, _)| *value == number);
        needed.all(|(_, needed)| matches!(input, Input::Tensor(_, width) if width == *needed))
    }

    pub(super) fn phase_count(&self) -> usize {
        self.phases.len()
    }

    pub(super) fn phase(&self, phase: usize) -> &[ScheduledOp] {
        &self.phases[phase]
    }

    pub(super) fn phases(&self) -> impl Iterator<Item = &[ScheduledOp]> {
        self.phases.iter().map(Vec::as_slice)
    }

    /// In an order in which what they need is there.
    pub(super) fn ops(&self) -> impl Iterator<Item = &ScheduledOp> {
        self.phases.iter().flatten()
    }

    /// Sizes of an output.
    pub(super) fn output_shape(&self, output: usize, buffers: &MemoryPlan) -> Result<OutputShape, ProgramError> {
        let &(phase, index, number) = self.producers.get(&output).ok_or(ProgramError::UnknownValue)?;
        let step = &self.phases[phase][index];
        Ok(step.output_shape(number, buffers.length(output)))
    }

    /// Whether the inputs of all steps fit each other.
    pub(super) fn check(&self, buffers: &MemoryPlan) -> Result<(), ProgramError> {
        match self.ops().all(|step| step.inputs_match(buffers)) {
            true => Ok(()),
            false => Err(ProgramError::ShapeMismatch),
        }
    }

    /// Asks memory for what this member of so many will read first in the next phase that reads what nobody has looked at,
    /// from phase `next` on.
    pub(super) fn prefetch(&self, next: usize, worker: usize, workers: usize, buffers: &MemoryPlan) {
        let phases = self.phases.get(next..).unwrap_or_default();
        if let Some(steps) = phases
            .iter()
            .find(|steps| steps.iter().any(ScheduledOp::reads_cold_memory))
        {
            // Nearly always there is one, or there are three of the same size.
            if let Some(step) = steps.get(worker * steps.len() / workers) {
                step.prefetch(worker * steps.len() % workers, workers, buffers);
            }
        }
    }
}

/// How each value is read that is more than other rows of another one.
fn consumers(calls: &[OpCall], values: usize, outputs: &[usize]) -> Result<Vec<Consumers>, ProgramError> {
    let mut roots: Vec<usize> = (0..values).collect();
    let mut consumers = vec![Consumers::default(); values];
    let mut widths = vec![None; values];
    let root_of = |roots: &[usize], value: usize| roots.get(value).copied().ok_or(ProgramError::UnknownValue);
    for call in calls {
        if let (Op::Reshape(_), [input], [output]) = (&call.op, &call.inputs[..], &call.outputs[..]) {
            let root = root_of(&roots, *input)?;
            *roots.get_mut(*output).ok_or(ProgramError::UnknownValue)? = root;
            continue;
        }
        for (index, &input) in call.inputs.iter().enumerate() {
            let root = root_of(&roots, input)?;
            let consumers = &mut consumers[root];
            match &call.op {
                Op::PackedMatMul(weights) if index == 0 && weights.lhs_layout() != LhsLayout::RowMajor => {
                    let depth = weights.k();
                    consumers.add(weights.lhs_layout());
                    // It must be there as it is if what it is made ready for are other rows than those that are made.
                    consumers.rows |= widths[root] != Some(depth);
                    if consumers.depth.replace(depth).is_some_and(|other| other != depth) {
                        return Err(ProgramError::LayoutConflict);
                    }
                }
                _ => consumers.add(LhsLayout::RowMajor),
            }
        }
        for (index, &output) in call.outputs.iter().enumerate() {
            *widths.get_mut(output).ok_or(ProgramError::UnknownValue)? = call.op.output_width(index);
        }
    }
    for &output in outputs {
        consumers[root_of(&roots, output)?].add(LhsLayout::RowMajor);
    }
    // There is one place for what is made ready. Weights are of two forms only where some are too deep for tiles.
    match consumers.iter().any(|consumers| consumers.turned && consumers.digits) {
        true => Err(ProgramError::LayoutConflict),
        false => Ok(consumers),
    }
}

impl Scheduler {
    fn add(&mut self, call: OpCall, reads: &mut Vec<usize>) -> Result<(), ProgramError> {
        let OpCall {
            op: work,
            inputs,
            outputs,
        } = call;
        let known: Vec<ValueInfo> = inputs
            .iter()
            .map(|&input| {
                self.known
                    .get(input)
                    .copied()
                    .flatten()
                    .ok_or(ProgramError::UnknownValue)
            })
            .collect::<Result<_, _>>()?;
        if let Op::Reshape(width) = work {
            let ([known], [output]) = (&known[..], &outputs[..]) else {
                return Err(ProgramError::Arity);
            };
            if width == 0 || *output < self.known.len() && self.known[*output].is_some() {
                return Err(ProgramError::UnknownValue);
            }
            self.known[*output] = Some(ValueInfo {
                width: Some(width),
                ..*known
            });
            return Ok(());
        }
        let needed = work.inputs();
        if !needed.contains(&inputs.len()) || outputs.len() != work.outputs() {
            return Err(ProgramError::Arity);
        }
        for (index, known) in known.iter().enumerate() {
            match (known.width, work.width(index)) {
                (Some(width), Some(needed)) if width != needed => return Err(ProgramError::WidthMismatch),
                (None, Some(needed)) => self.widths.push((known.root, needed)),
                _ => {}
            }
        }
        let roots: Vec<usize> = known.iter().map(|known| known.root).collect();
        let mut slots: Vec<Slot> = roots.iter().map(|&root| Slot::Plain(root)).collect();
        let mut number = None;
        if let Op::RelPosAttention(_) = work {
            number = roots.get(6).copied();
            slots.truncate(6);
            reads.extend(number);
            self.numbers.extend(number);
        }
        reads.extend(slots.iter().map(|slot| slot.value()));
        // What only products read goes to where they want it at once, but for sums.
        let is_sum = matches!(work, Op::PackedMatMul(_)) && inputs.len() > 1;
        let consumers = outputs.first().and_then(|&output| self.consumers.get(output));
        let can_pack_output =
            work.can_pack_output() && !is_sum && consumers.is_some_and(|consumers| consumers.only_packed());
        let mut own = None;
        if let Op::PackedMatMul(weights) = &work
            && weights.lhs_layout() != LhsLayout::RowMajor
        {
            own = self.own.get(&roots[0]).cloned();
            if own.is_none() {
                self.emit_packing(weights, roots[0])?;
            }
            slots[0] = own.as_ref().map_or(Slot::Packed(roots[0]), |own| own.rows);
        }
        let phases = slots.iter().map(|slot| self.phase(*slot));
        let phase = phases.max().flatten().unwrap_or(0);
        // What is normalised for products only, each member does for itself when it comes to them: that takes less time than
        // to wait for each other, and to fetch what another one has written.
        if can_pack_output && let Op::LayerNorm(layer_norm) = work {
            let rows = slots[0];
            let layer_norm: Arc<LayerNorm> = layer_norm.into();
            let width = Some(layer_norm.width());
            self.own.insert(outputs[0], InlinedNorm { layer_norm, rows });
            return self.define(outputs[0], width, [None; 2]);
        }
        let mut targets: Vec<Slot> = outputs.iter().map(|&output| Slot::Plain(output)).collect();
        if can_pack_output && let Some(first) = targets.first_mut() {
            *first = Slot::Packed(first.value());
        }
        for (index, (&output, target)) in outputs.iter().zip(&targets).enumerate() {
            let mut phases = [None; 2];
            phases[usize::from(matches!(target, Slot::Packed(_)))] = Some(phase + 1);
            self.define(output, work.output_width(index), phases)?;
        }
        let own = own.map(|own| own.layer_norm);
        let kernel = OpKernel::new(work, number, own, self.workers).ok_or(ProgramError::Arity)?;
        let step = ScheduledOp {
            kernel,
            inputs: slots,
            outputs: targets,
        };
        self.push(phase, step);
        Ok(())
    }

    /// Notes a value that is made now.
    fn define(&mut self, value: usize, width: Option<usize>, phase: [Option<usize>; 2]) -> Result<(), ProgramError> {
        let slot = self.known.get_mut(value).filter(|slot| slot.is_none());
        *slot.ok_or(ProgramError::UnknownValue)? = Some(ValueInfo {
            root: value,
            width,
            phase,
        });
        Ok(())
    }

    /// The first phase in which a place can be read. `None`: it is not written.
    fn phase(&self, slot: Slot) -> Option<usize> {
        let known = self.known.get(slot.value()).copied().flatten()?;
        known.phase[usize::from(matches!(slot, Slot::Packed(_)))]
    }

    /// Sees to it that value `root` is there as `weights` read it.
    fn emit_packing(&mut self, weights: &Arc<PackedWeights>, root: usize) -> Result<(), ProgramError> {
        if self.phase(Slot::Packed(root)).is_some() {
            return Ok(());
        }
        let phase = self.phase(Slot::Plain(root)).ok_or(ProgramError::UnknownValue)?;
        let kernel = match weights.lhs_layout() {
            LhsLayout::BytePlanes => OpKernel::PackBytePlanes(weights.clone()),
            _ => OpKernel::PackLhs {
                width: weights.k(),
                workers: self.workers,
            },
        };
        let step = ScheduledOp {
            kernel,
            inputs: vec![Slot::Plain(root)],
            outputs: vec![Slot::Packed(root)],
        };
        self.push(phase, step);
        if let Some(known) = &mut self.known[root] {
            known.phase[1] = Some(phase + 1);
        }
        Ok(())
    }

    fn push(&mut self, phase: usize, step: ScheduledOp) {
        while self.phases.len() <= phase {
            self.phases.push(Vec::new());
        }
        self.phases[phase].push(step);
    }
}

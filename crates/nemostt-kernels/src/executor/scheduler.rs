// SPDX-License-Identifier: MIT OR Apache-2.0

//! Turns the calls of a program into phases.

use std::{collections::HashMap, sync::Arc};

use super::{
    Op, OpCall, ProgramError,
    consumers::{Consumers, consumers},
    memory_plan::Slot,
    schedule::Schedule,
    scheduled_op::{Kernel, Prologue, ScheduledOp},
};
use crate::{
    fused_op::{FusedOp, MAX_INPUTS, MAX_OUTPUTS, MAX_SCALARS, Signature},
    gemm::{LhsLayout, PackedWeights},
};

/// What is known of a value.
#[derive(Debug, Clone, Copy)]
struct ValueInfo {
    /// The value that is stored: another one if this one is a reshaped view.
    root: usize,
    /// Width of its rows; `None` for an input of the program.
    width: Option<usize>,
    /// The first phase that can read it in row-major and in packed layout; `None` if it is not stored so.
    phase: [Option<usize>; 2],
}

struct Scheduler {
    known: Vec<Option<ValueInfo>>,
    consumers: Vec<Consumers>,
    /// Operations that are run as prologues, by their output.
    prologues: HashMap<usize, Prologue>,
    phases: Vec<Vec<ScheduledOp>>,
    /// Widths that inputs of the program must have.
    input_widths: Vec<(usize, usize)>,
    /// Values that are scalars.
    scalars: Vec<usize>,
    /// Values that are read.
    reads: Vec<usize>,
    /// Values that are updated in place.
    in_place: Vec<usize>,
}

/// Schedules `calls` for a program with `inputs` inputs and these outputs.
pub(super) fn schedule(calls: Vec<OpCall>, inputs: usize, outputs: &[usize]) -> Result<Schedule, ProgramError> {
    let numbers = calls.iter().flat_map(|call| call.inputs.iter().chain(&call.outputs));
    let values = numbers.max().map_or(inputs, |&last| inputs.max(last.saturating_add(1)));
    // Each value is an input or is written once.
    let written: usize = calls.iter().map(|call| call.outputs.len()).sum();
    if values > inputs + written {
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
        prologues: HashMap::new(),
        phases: Vec::new(),
        input_widths: Vec::new(),
        scalars: Vec::new(),
        reads: Vec::new(),
        in_place: Vec::new(),
    };
    for call in calls {
        scheduler.add(call)?;
    }
    let Scheduler {
        phases,
        input_widths,
        scalars,
        mut reads,
        in_place,
        ..
    } = scheduler;
    let slots = || phases.iter().flatten().flat_map(|op| &op.inputs);
    if scalars.iter().any(|&scalar| scalar >= inputs) || slots().any(|slot| scalars.contains(&slot.value())) {
        return Err(ProgramError::UnknownValue);
    }
    let readers = |value: usize| slots().filter(|slot| slot.value() == value).count();
    if in_place.into_iter().any(|value| readers(value) != 1) {
        return Err(ProgramError::InPlaceConflict);
    }
    reads.retain(|&value| value < inputs);
    reads.sort_unstable();
    reads.dedup();
    Schedule::new(phases, values, reads, (input_widths, scalars), outputs)
}

impl Scheduler {
    fn add(&mut self, call: OpCall) -> Result<(), ProgramError> {
        let inputs = call.inputs.iter().map(|&input| self.known(input));
        let inputs: Vec<ValueInfo> = inputs.collect::<Result<_, _>>()?;
        match call.op {
            Op::Reshape(width) => match (&inputs[..], &call.outputs[..]) {
                ([_], [_]) if width == 0 => Err(ProgramError::WidthMismatch),
                (&[input], &[output]) => self.define(
                    output,
                    ValueInfo {
                        width: Some(width),
                        ..input
                    },
                ),
                _ => Err(ProgramError::Arity),
            },
            Op::Fused(op) => self.add_op(op, &inputs, &call.outputs),
        }
    }

    fn add_op(&mut self, op: Arc<dyn FusedOp>, inputs: &[ValueInfo], outputs: &[usize]) -> Result<(), ProgramError> {
        let signature = op.signature();
        let tensors = check_arity(&signature, inputs.len(), outputs.len())?;
        if op.is_row_wise() && (signature.scalars > 0 || !signature.in_place.is_empty()) {
            return Err(ProgramError::InvalidOp);
        }
        for (input, &expected) in inputs.iter().zip(&signature.inputs[..tensors]) {
            match (input.width, expected) {
                (Some(width), Some(expected)) if width != expected => return Err(ProgramError::WidthMismatch),
                (None, Some(expected)) => self.input_widths.push((input.root, expected)),
                _ => {}
            }
        }
        self.reads.extend(inputs.iter().map(|input| input.root));
        let (tensors, scalars) = inputs.split_at(tensors);
        let scalars: Vec<usize> = scalars.iter().map(|scalar| scalar.root).collect();
        self.scalars.extend(&scalars);
        let in_place = signature.in_place.iter().map(|&(input, _)| tensors[input].root);
        self.in_place.extend(in_place);
        let mut slots: Vec<Slot> = tensors.iter().map(|input| Slot::RowMajor(input.root)).collect();
        let weights = op.weights().cloned();
        // Packed rows are those of all streams.
        if weights.is_some() && !op.is_row_wise() {
            return Err(ProgramError::InvalidOp);
        }
        let mut prologue = None;
        if let Some(weights) = weights
            .as_ref()
            .filter(|weights| weights.lhs_layout() != LhsLayout::RowMajor)
        {
            let root = tensors.first().ok_or(ProgramError::InvalidOp)?.root;
            prologue = self.prologues.get(&root).cloned();
            if prologue.is_none() {
                self.add_packing(weights, root)?;
            }
            slots[0] = Slot::Packed(root);
        }
        let phase = slots.iter().map(|slot| self.first_phase(*slot)).max();
        let phase = phase.flatten().unwrap_or(0);
        let only_packed = match outputs {
            [first, ..] => self.consumers.get(*first).is_some_and(|first| first.only_packed()),
            [] => false,
        };
        if let (&[output], &[input], &[width]) = (outputs, &slots[..], &signature.outputs[..])
            && only_packed
            && op.as_prologue().is_some()
            && (weights.is_none() && op.is_row_wise() && signature.inputs == [Some(width)])
        {
            let prologue = Prologue { op, input, output };
            self.prologues.insert(output, prologue.clone());
            let (inputs, outputs) = (vec![input], vec![Slot::Packed(output)]);
            let kernel = Kernel::Prologue(prologue);
            self.push(phase, ScheduledOp::new(kernel, signature, inputs, Vec::new(), outputs));
            return self.define(
                output,
                ValueInfo {
                    root: output,
                    width: Some(width),
                    phase: [None, Some(phase + 1)],
                },
            );
        }
        let packs_output = only_packed && op.can_pack_output(slots.len());
        let mut targets: Vec<Slot> = outputs.iter().map(|&output| Slot::RowMajor(output)).collect();
        if packs_output && let Some(first) = targets.first_mut() {
            *first = Slot::Packed(first.value());
        }
        for (target, &width) in targets.iter().zip(&signature.outputs) {
            let mut phases = [None; 2];
            phases[target.layout_index()] = Some(phase + 1);
            self.define(
                target.value(),
                ValueInfo {
                    root: target.value(),
                    width: Some(width),
                    phase: phases,
                },
            )?;
        }
        let kernel = Kernel::Fused { op, weights, prologue };
        self.push(phase, ScheduledOp::new(kernel, signature, slots, scalars, targets));
        Ok(())
    }

    fn known(&self, value: usize) -> Result<ValueInfo, ProgramError> {
        let known = self.known.get(value).copied().flatten();
        known.ok_or(ProgramError::UnknownValue)
    }

    /// Adds a value, which must not exist yet.
    fn define(&mut self, value: usize, info: ValueInfo) -> Result<(), ProgramError> {
        let slot = self.known.get_mut(value).filter(|slot| slot.is_none());
        *slot.ok_or(ProgramError::UnknownValue)? = Some(info);
        Ok(())
    }

    /// The first phase in which a slot can be read; `None` if it is not written.
    fn first_phase(&self, slot: Slot) -> Option<usize> {
        self.known(slot.value()).ok()?.phase[slot.layout_index()]
    }

    /// Packs value `root` for `weights`, unless it is packed already.
    fn add_packing(&mut self, weights: &Arc<PackedWeights>, root: usize) -> Result<(), ProgramError> {
        if self.first_phase(Slot::Packed(root)).is_some() {
            return Ok(());
        }
        let phase = self
            .first_phase(Slot::RowMajor(root))
            .ok_or(ProgramError::UnknownValue)?;
        let width = weights.k();
        let packing = ScheduledOp::new(
            Kernel::PackLhs(weights.clone()),
            Signature::new([Some(width)], [width]),
            vec![Slot::RowMajor(root)],
            Vec::new(),
            vec![Slot::Packed(root)],
        );
        self.push(phase, packing);
        if let Some(known) = &mut self.known[root] {
            known.phase[1] = Some(phase + 1);
        }
        Ok(())
    }

    fn push(&mut self, phase: usize, op: ScheduledOp) {
        while self.phases.len() <= phase {
            self.phases.push(Vec::new());
        }
        self.phases[phase].push(op);
    }
}

/// The number of tensors among `inputs` inputs.
fn check_arity(signature: &Signature, inputs: usize, outputs: usize) -> Result<usize, ProgramError> {
    let Signature {
        inputs: tensors,
        optional,
        scalars,
        outputs: expected,
        in_place,
    } = signature;
    let count = inputs.checked_sub(*scalars).ok_or(ProgramError::Arity)?;
    let is_valid = (tensors.len().saturating_sub(*optional)..=tensors.len()).contains(&count)
        && outputs == expected.len()
        && (count <= MAX_INPUTS && *scalars <= MAX_SCALARS && outputs <= MAX_OUTPUTS);
    if !is_valid {
        return Err(ProgramError::Arity);
    }
    // Of the first output, tasks write rows or columns.
    let required = tensors.len().saturating_sub(*optional);
    let is_pair = |&(input, output): &(usize, usize)| input < required && (1..outputs).contains(&output);
    let is_unique = |index: usize| {
        let (input, output) = in_place[index];
        in_place[..index].iter().all(|pair| pair.0 != input && pair.1 != output)
    };
    match !expected.is_empty() && in_place.iter().all(is_pair) && (0..in_place.len()).all(is_unique) {
        true => Ok(count),
        false => Err(ProgramError::InvalidOp),
    }
}

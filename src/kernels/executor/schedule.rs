// SPDX-License-Identifier: MIT OR Apache-2.0

//! From the calls of a chain to steps in phases.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    Call, Input, Misfit, Sizes, Work,
    memory_plan::{Buffers, Place},
    op::Kind,
};
use crate::kernels::{
    gemm::{Layout, Weights},
    layer_norm::Normalisation,
};

/// One step of a phase.
pub(super) struct Step {
    pub(super) kind: Kind,
    /// What it reads besides numbers.
    pub(super) inputs: Vec<Place>,
    pub(super) outputs: Vec<Place>,
}

impl Step {
    pub(super) fn reads(&self) -> impl Iterator<Item = Place> {
        self.inputs.iter().copied()
    }

    pub(super) fn writes(&self) -> impl Iterator<Item = Place> {
        self.outputs.iter().copied()
    }
}

/// All steps of a chain.
pub(super) struct Steps {
    /// By phases.
    phases: Vec<Vec<Step>>,
    /// How many values there are.
    pub(super) values: usize,
    /// The inputs that a run reads.
    pub(super) reads: Vec<usize>,
    /// How wide the rows of inputs must be.
    widths: Vec<(usize, usize)>,
    /// What gives each output, as an index into its phase and into its outputs.
    makers: HashMap<usize, (usize, usize, usize)>,
}

/// What is known of a value while steps are made.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// The value that it really is.
    root: usize,
    /// Width of its rows; `None`: an input, of which nothing is known.
    width: Option<usize>,
    /// The phase behind the one that writes it, and behind the one that makes it ready.
    phase: [Option<usize>; 2],
}

/// In which ways a value is read.
#[derive(Debug, Clone, Copy, Default)]
struct Users {
    rows: bool,
    turned: bool,
    digits: bool,
    /// How wide the rows are for which it is made ready.
    depth: Option<usize>,
}

impl Users {
    fn note(&mut self, layout: Layout) {
        match layout {
            Layout::Rows => self.rows = true,
            Layout::Turned => self.turned = true,
            Layout::Digits => self.digits = true,
        }
    }

    fn want_only_turned(self) -> bool {
        self.turned && !self.rows && !self.digits
    }
}

/// A normalisation that each member does for itself.
#[derive(Clone)]
struct Own {
    normalisation: Arc<Normalisation>,
    rows: Place,
}

/// Makes steps of calls.
struct Maker {
    known: Vec<Option<Known>>,
    users: Vec<Users>,
    /// Normalisations that members do for themselves, by what they give, with what they take.
    own: HashMap<usize, Own>,
    members: usize,
    phases: Vec<Vec<Step>>,
    widths: Vec<(usize, usize)>,
    /// Values that are one number.
    numbers: Vec<usize>,
}

impl Steps {
    pub(super) fn new(calls: Vec<Call>, inputs: usize, outputs: &[usize], members: usize) -> Result<Self, Misfit> {
        let numbers = calls.iter().flat_map(|call| call.inputs.iter().chain(&call.outputs));
        let values = numbers.max().map_or(inputs, |&most| inputs.max(most.saturating_add(1)));
        // Each value is made once, so there are no more than inputs and what calls give.
        let made: usize = calls.iter().map(|call| call.outputs.len()).sum();
        if values > inputs + made {
            return Err(Misfit::Numbers);
        }
        let input = |value: usize| Known {
            root: value,
            width: None,
            phase: [Some(0), None],
        };
        let mut maker = Maker {
            known: (0..values)
                .map(|value| (value < inputs).then(|| input(value)))
                .collect(),
            users: users(&calls, values, outputs)?,
            own: HashMap::new(),
            members,
            phases: Vec::new(),
            widths: Vec::new(),
            numbers: Vec::new(),
        };
        let mut reads = Vec::new();
        for call in calls {
            maker.add(call, &mut reads)?;
        }
        let read = |number: &usize| {
            maker
                .phases
                .iter()
                .flatten()
                .any(|step| step.reads().any(|p| p.value() == *number))
        };
        if maker.numbers.iter().any(|number| *number >= inputs || read(number)) {
            return Err(Misfit::Numbers);
        }
        reads.retain(|&value| value < inputs);
        reads.sort_unstable();
        reads.dedup();
        let mut makers = HashMap::new();
        for (phase, steps) in maker.phases.iter().enumerate() {
            for (index, step) in steps.iter().enumerate() {
                for (number, place) in step.writes().enumerate() {
                    if let Place::Rows(value) = place {
                        makers.insert(value, (phase, index, number));
                    }
                }
            }
        }
        let mut seen = HashSet::new();
        // Each has one place.
        let mut are_made = outputs
            .iter()
            .map(|output| makers.contains_key(output) && seen.insert(output));
        match are_made.all(|is_made| is_made) {
            true => Ok(Self {
                phases: maker.phases,
                values,
                reads,
                widths: maker.widths,
                makers,
            }),
            false => Err(Misfit::Numbers),
        }
    }

    /// Whether an input is as wide as it must be.
    pub(super) fn is_wide(&self, number: usize, input: Input) -> bool {
        let mut needed = self.widths.iter().filter(|(value, _)| *value == number);
        needed.all(|(_, needed)| matches!(input, Input::Floats(_, width) if width == *needed))
    }

    pub(super) fn phase_count(&self) -> usize {
        self.phases.len()
    }

    pub(super) fn phase(&self, phase: usize) -> &[Step] {
        &self.phases[phase]
    }

    pub(super) fn phases(&self) -> impl Iterator<Item = &[Step]> {
        self.phases.iter().map(Vec::as_slice)
    }

    /// In an order in which what they need is there.
    pub(super) fn all(&self) -> impl Iterator<Item = &Step> {
        self.phases.iter().flatten()
    }

    /// Sizes of an output.
    pub(super) fn sizes(&self, output: usize, buffers: &Buffers) -> Result<Sizes, Misfit> {
        let &(phase, index, number) = self.makers.get(&output).ok_or(Misfit::Numbers)?;
        let step = &self.phases[phase][index];
        Ok(step.sizes(number, buffers.length(output)))
    }

    /// Whether the inputs of all steps fit each other.
    pub(super) fn check(&self, buffers: &Buffers) -> Result<(), Misfit> {
        match self.all().all(|step| step.fits(buffers)) {
            true => Ok(()),
            false => Err(Misfit::Sizes),
        }
    }

    /// Asks memory for what this member of so many will read first in the next phase that reads what nobody has looked at,
    /// from phase `next` on.
    pub(super) fn ask_for(&self, next: usize, member: usize, members: usize, buffers: &Buffers) {
        let phases = self.phases.get(next..).unwrap_or_default();
        if let Some(steps) = phases.iter().find(|steps| steps.iter().any(Step::reads_afar)) {
            // Nearly always there is one, or there are three of the same size.
            if let Some(step) = steps.get(member * steps.len() / members) {
                step.ask_for(member * steps.len() % members, members, buffers);
            }
        }
    }
}

/// How each value is read that is more than other rows of another one.
fn users(calls: &[Call], values: usize, outputs: &[usize]) -> Result<Vec<Users>, Misfit> {
    let mut roots: Vec<usize> = (0..values).collect();
    let mut users = vec![Users::default(); values];
    let mut widths = vec![None; values];
    let root_of = |roots: &[usize], value: usize| roots.get(value).copied().ok_or(Misfit::Numbers);
    for call in calls {
        if let (Work::Reshape(_), [input], [output]) = (&call.work, &call.inputs[..], &call.outputs[..]) {
            let root = root_of(&roots, *input)?;
            *roots.get_mut(*output).ok_or(Misfit::Numbers)? = root;
            continue;
        }
        for (index, &input) in call.inputs.iter().enumerate() {
            let root = root_of(&roots, input)?;
            let users = &mut users[root];
            match &call.work {
                Work::Product(weights) if index == 0 && weights.reads() != Layout::Rows => {
                    let depth = weights.depth();
                    users.note(weights.reads());
                    // It must be there as it is if what it is made ready for are other rows than those that are made.
                    users.rows |= widths[root] != Some(depth);
                    if users.depth.replace(depth).is_some_and(|other| other != depth) {
                        return Err(Misfit::Forms);
                    }
                }
                _ => users.note(Layout::Rows),
            }
        }
        for (index, &output) in call.outputs.iter().enumerate() {
            *widths.get_mut(output).ok_or(Misfit::Numbers)? = call.work.output_width(index);
        }
    }
    for &output in outputs {
        users[root_of(&roots, output)?].note(Layout::Rows);
    }
    // There is one place for what is made ready. Weights are of two forms only where some are too deep for tiles.
    match users.iter().any(|users| users.turned && users.digits) {
        true => Err(Misfit::Forms),
        false => Ok(users),
    }
}

impl Maker {
    fn add(&mut self, call: Call, reads: &mut Vec<usize>) -> Result<(), Misfit> {
        let Call { work, inputs, outputs } = call;
        let known: Vec<Known> = inputs
            .iter()
            .map(|&input| self.known.get(input).copied().flatten().ok_or(Misfit::Numbers))
            .collect::<Result<_, _>>()?;
        if let Work::Reshape(width) = work {
            let ([known], [output]) = (&known[..], &outputs[..]) else {
                return Err(Misfit::Missing);
            };
            if width == 0 || *output < self.known.len() && self.known[*output].is_some() {
                return Err(Misfit::Numbers);
            }
            self.known[*output] = Some(Known {
                width: Some(width),
                ..*known
            });
            return Ok(());
        }
        let needed = work.inputs();
        if !needed.contains(&inputs.len()) || outputs.len() != work.outputs() {
            return Err(Misfit::Missing);
        }
        for (index, known) in known.iter().enumerate() {
            match (known.width, work.width(index)) {
                (Some(width), Some(needed)) if width != needed => return Err(Misfit::Width),
                (None, Some(needed)) => self.widths.push((known.root, needed)),
                _ => {}
            }
        }
        let roots: Vec<usize> = known.iter().map(|known| known.root).collect();
        let mut places: Vec<Place> = roots.iter().map(|&root| Place::Rows(root)).collect();
        let mut number = None;
        if let Work::Attention(_) = work {
            number = roots.get(6).copied();
            places.truncate(6);
            reads.extend(number);
            self.numbers.extend(number);
        }
        reads.extend(places.iter().map(|place| place.value()));
        // What only products read goes to where they want it at once, but for sums.
        let is_sum = matches!(work, Work::Product(_)) && inputs.len() > 1;
        let users = outputs.first().and_then(|&output| self.users.get(output));
        let turns = work.turns() && !is_sum && users.is_some_and(|users| users.want_only_turned());
        let mut own = None;
        if let Work::Product(weights) = &work
            && weights.reads() != Layout::Rows
        {
            own = self.own.get(&roots[0]).cloned();
            if own.is_none() {
                self.make_ready(weights, roots[0])?;
            }
            places[0] = own.as_ref().map_or(Place::Ready(roots[0]), |own| own.rows);
        }
        let phases = places.iter().map(|place| self.phase(*place));
        let phase = phases.max().flatten().unwrap_or(0);
        // What is normalised for products only, each member does for itself when it comes to them: that takes less time than
        // to wait for each other, and to fetch what another one has written.
        if turns && let Work::Normalisation(normalisation) = work {
            let rows = places[0];
            let normalisation: Arc<Normalisation> = normalisation.into();
            let width = Some(normalisation.width());
            self.own.insert(outputs[0], Own { normalisation, rows });
            return self.know(outputs[0], width, [None; 2]);
        }
        let mut targets: Vec<Place> = outputs.iter().map(|&output| Place::Rows(output)).collect();
        if turns && let Some(first) = targets.first_mut() {
            *first = Place::Ready(first.value());
        }
        for (index, (&output, target)) in outputs.iter().zip(&targets).enumerate() {
            let mut phases = [None; 2];
            phases[usize::from(matches!(target, Place::Ready(_)))] = Some(phase + 1);
            self.know(output, work.output_width(index), phases)?;
        }
        let own = own.map(|own| own.normalisation);
        let kind = Kind::new(work, number, own, self.members).ok_or(Misfit::Missing)?;
        let step = Step {
            kind,
            inputs: places,
            outputs: targets,
        };
        self.push(phase, step);
        Ok(())
    }

    /// Notes a value that is made now.
    fn know(&mut self, value: usize, width: Option<usize>, phase: [Option<usize>; 2]) -> Result<(), Misfit> {
        let slot = self.known.get_mut(value).filter(|slot| slot.is_none());
        *slot.ok_or(Misfit::Numbers)? = Some(Known {
            root: value,
            width,
            phase,
        });
        Ok(())
    }

    /// The first phase in which a place can be read. `None`: it is not written.
    fn phase(&self, place: Place) -> Option<usize> {
        let known = self.known.get(place.value()).copied().flatten()?;
        known.phase[usize::from(matches!(place, Place::Ready(_)))]
    }

    /// Sees to it that value `root` is there as `weights` read it.
    fn make_ready(&mut self, weights: &Arc<Weights>, root: usize) -> Result<(), Misfit> {
        if self.phase(Place::Ready(root)).is_some() {
            return Ok(());
        }
        let phase = self.phase(Place::Rows(root)).ok_or(Misfit::Numbers)?;
        let kind = match weights.reads() {
            Layout::Digits => Kind::Digits(weights.clone()),
            _ => Kind::Turn {
                width: weights.depth(),
                members: self.members,
            },
        };
        let step = Step {
            kind,
            inputs: vec![Place::Rows(root)],
            outputs: vec![Place::Ready(root)],
        };
        self.push(phase, step);
        if let Some(known) = &mut self.known[root] {
            known.phase[1] = Some(phase + 1);
        }
        Ok(())
    }

    fn push(&mut self, phase: usize, step: Step) {
        while self.phases.len() <= phase {
            self.phases.push(Vec::new());
        }
        self.phases[phase].push(step);
    }
}

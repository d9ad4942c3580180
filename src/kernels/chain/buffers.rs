// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where the values of a chain are.
//!
//! What comes between its first and its last step lies in a few buffers that are used again as soon as nobody reads them any
//! more: so they stay in the processor's cache, through which all weights pass.

use std::sync::Arc;

use super::{
    Input, Misfit,
    steps::{Step, Steps},
};
use crate::kernels::{
    matrix::{Room, TurnedOutput},
    normalisation::Normalisation,
};

/// Where a step reads from or writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// A value as it is.
    Rows(usize),
    /// A value made ready for products.
    Ready(usize),
}

impl Place {
    pub(super) fn value(self) -> usize {
        match self {
            Self::Rows(value) | Self::Ready(value) => value,
        }
    }
}

/// Floats that a run reads or writes. Null: not set.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: *mut f32,
    length: usize,
}

const NOWHERE: Span = Span {
    start: std::ptr::null_mut(),
    length: 0,
};

/// Of a value.
#[derive(Debug, Clone, Copy)]
struct Value {
    /// What it is if it is an input of numbers.
    number: usize,
    length: usize,
    /// Where it is, as it is and ready.
    rows: Span,
    ready: Span,
    /// Buffers of the two.
    buffers: [Option<usize>; 2],
}

/// Rows that a member made ready for products.
#[derive(Default)]
pub(super) struct Own {
    ready: Vec<f32>,
    /// The normalisation that they are of, by its address: the same one is asked for by several products.
    made_by: Option<*const Normalisation>,
}

impl Own {
    /// `rows` normalised and turned.
    pub(super) fn normalised(&mut self, normalisation: &Arc<Normalisation>, rows: &[f32]) -> &[f32] {
        let address = Arc::as_ptr(normalisation);
        let ready = &mut self.ready[..rows.len()];
        if self.made_by != Some(address) {
            normalisation.turn(rows, &TurnedOutput::new(ready, normalisation.width()));
            self.made_by = Some(address);
        }
        ready
    }
}

/// See the [module](self).
pub(super) struct Buffers {
    values: Vec<Value>,
    buffers: Vec<Vec<f32>>,
    /// Where digits of inputs are, by the numbers of buffers. Only one thread at a time has to do with one of them, or all
    /// read it.
    rooms: Vec<std::cell::UnsafeCell<Room>>,
    /// Of each member, who alone has to do with it.
    own: Vec<std::cell::UnsafeCell<Own>>,
    /// How many values members make ready for themselves, at most.
    own_length: usize,
    /// Lengths of the inputs that the other lengths were found for.
    known: Vec<usize>,
    inputs: usize,
}

// SAFETY: threads read and write through it only what `Span`s and `rooms` hold, as the steps of a phase demand.
#[allow(unsafe_code)]
unsafe impl Sync for Buffers {}
// SAFETY: pointers in it are set anew in each run.
#[allow(unsafe_code)]
unsafe impl Send for Buffers {}

impl Buffers {
    /// Gives each place that is not an input or an output a buffer from the phase that writes it to the last one that reads it.
    pub(super) fn new(steps: &Steps, inputs: usize, outputs: &[usize], members: usize) -> Self {
        let value = Value {
            number: 0,
            length: 0,
            rows: NOWHERE,
            ready: NOWHERE,
            buffers: [None; 2],
        };
        let mut values = vec![value; steps.values];
        let last_read = |place: Place| {
            let reads = |step: &Step| step.reads().any(|read| read == place);
            (0..steps.phase_count())
                .rev()
                .find(|&phase| steps.phase(phase).iter().any(reads))
        };
        let (mut free, mut count) = (Vec::new(), 0);
        let mut until: Vec<(usize, usize)> = Vec::new();
        for phase in 0..steps.phase_count() {
            for place in steps.phase(phase).iter().flat_map(Step::writes) {
                let is_output = matches!(place, Place::Rows(value) if outputs.contains(&value));
                if is_output {
                    continue;
                }
                // The one that was freed last is the likeliest to be in the cache.
                let buffer = free.pop().unwrap_or_else(|| {
                    count += 1;
                    count - 1
                });
                let slot = usize::from(matches!(place, Place::Ready(_)));
                values[place.value()].buffers[slot] = Some(buffer);
                until.push((last_read(place).unwrap_or(phase), buffer));
            }
            until.retain(|&(last, buffer)| {
                let lives = last > phase;
                if !lives {
                    free.push(buffer);
                }
                lives
            });
        }
        Self {
            values,
            buffers: vec![Vec::new(); count],
            rooms: (0..count).map(|_| Room::default().into()).collect(),
            own: (0..members).map(|_| Own::default().into()).collect(),
            own_length: 0,
            known: Vec::new(),
            inputs,
        }
    }

    /// How many buffers there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.buffers.len()
    }

    pub(super) fn set_input(&mut self, number: usize, input: Input<'_>) {
        let value = &mut self.values[number];
        match input {
            // Never written: no step has an input of the chain among what it writes.
            Input::Floats(floats, _) => {
                value.length = floats.len();
                value.rows = Span {
                    start: floats.as_ptr().cast_mut(),
                    length: floats.len(),
                };
            }
            Input::Number(number) => value.number = number,
        }
    }

    /// `false`: it is of another length than the output has.
    pub(super) fn set_output(&mut self, number: usize, room: &mut [f32]) -> bool {
        let value = &mut self.values[number];
        value.rows = Span {
            start: room.as_mut_ptr(),
            length: room.len(),
        };
        value.length == room.len()
    }

    /// Finds the lengths of all values, and makes room for them, unless inputs are as long as in the last run.
    pub(super) fn find_lengths(&mut self, steps: &Steps) -> Result<(), Misfit> {
        let now = self.values[..self.inputs].iter().map(|value| value.length);
        if !self.known.is_empty() && now.clone().eq(self.known.iter().copied()) {
            return Ok(());
        }
        let now: Vec<usize> = now.collect();
        self.known.clear();
        for step in steps.all() {
            step.find_lengths(self)?;
        }
        self.make_room();
        self.known = now;
        Ok(())
    }

    /// Inputs have other values now: what members made of the last ones is not theirs.
    pub(super) fn forget_own(&mut self) {
        for own in &mut self.own {
            own.get_mut().made_by = None;
        }
    }

    pub(super) fn length(&self, value: usize) -> usize {
        self.values[value].length
    }

    /// Sees to it that a member can make so many values ready for itself.
    pub(super) fn keep_own(&mut self, length: usize) {
        self.own_length = self.own_length.max(length);
    }

    /// What member `member` has to itself.
    ///
    /// # Safety
    /// Nobody else may be that member.
    #[allow(unsafe_code, clippy::mut_from_ref)]
    pub(super) unsafe fn own(&self, member: usize) -> &mut Own {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.own[member].get() }
    }

    pub(super) fn set_length(&mut self, value: usize, length: usize) {
        self.values[value].length = length;
    }

    /// Makes buffers as large as they must be, and notes where they are.
    fn make_room(&mut self) {
        // All of them first: values share them, and a buffer that grows may move.
        for value in &self.values {
            for buffer in value.buffers.iter().flatten() {
                let buffer = &mut self.buffers[*buffer];
                if buffer.len() < value.length {
                    buffer.resize(value.length, 0.0);
                }
            }
        }
        for own in &mut self.own {
            own.get_mut().ready.resize(self.own_length, 0.0);
        }
        for value in &mut self.values {
            for (span, buffer) in [&mut value.rows, &mut value.ready].into_iter().zip(value.buffers) {
                if let Some(buffer) = buffer {
                    *span = Span {
                        start: self.buffers[buffer].as_mut_ptr(),
                        length: value.length,
                    };
                }
            }
        }
    }

    pub(super) fn number(&self, value: usize) -> usize {
        self.values[value].number
    }

    fn span(&self, place: Place) -> Span {
        match place {
            Place::Rows(value) => self.values[value].rows,
            Place::Ready(value) => self.values[value].ready,
        }
    }

    /// # Safety
    /// Nobody may write there as long as it is borrowed.
    #[allow(unsafe_code)]
    pub(super) unsafe fn read(&self, place: Place) -> &[f32] {
        let span = self.span(place);
        assert!(!span.start.is_null());
        // SAFETY: so many values are there, and the caller's promise.
        unsafe { std::slice::from_raw_parts(span.start, span.length) }
    }

    /// Where a place is, and how many values it has.
    pub(super) fn place(&self, place: Place) -> (*mut f32, usize) {
        let span = self.span(place);
        assert!(!span.start.is_null());
        (span.start, span.length)
    }

    /// Where a value is made ready that is no floats then.
    pub(super) fn room(&self, value: usize) -> *mut Room {
        let buffer = self.values[value].buffers[1];
        let room = buffer.and_then(|buffer| self.rooms.get(buffer));
        room.map_or(std::ptr::null_mut(), std::cell::UnsafeCell::get)
    }
}

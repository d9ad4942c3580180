// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where the values of a chain are.
//!
//! What comes between its first and its last step lies in a few buffers that are used again as soon as nobody reads them any
//! more: so they stay in the processor's cache, through which all weights pass.

use std::{
    cell::UnsafeCell,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
};

use super::{
    Input, Misfit,
    schedule::{Step, Steps},
};
use crate::kernels::{
    gemm::{Output, Room, TurnedColumns},
    layer_norm::Normalisation,
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

// SAFETY: it only says where values are. Who reads and writes them promises that it may.
#[allow(unsafe_code)]
unsafe impl Send for Span {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Span {}

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
    /// The address of the normalisation that they are of: the same one is asked for by several products.
    made_by: Option<usize>,
}

impl Own {
    /// `rows` normalised and turned.
    pub(super) fn normalised(&mut self, normalisation: &Arc<Normalisation>, rows: &[f32]) -> &[f32] {
        let address = Arc::as_ptr(normalisation).addr();
        let ready = &mut self.ready[..rows.len()];
        if self.made_by != Some(address) {
            normalisation.turn(rows, TurnedColumns::all(ready, normalisation.width()));
            self.made_by = Some(address);
        }
        ready
    }
}

/// Where digits of inputs are. Either one thread writes them, or some read them.
#[derive(Default)]
struct Digits(UnsafeCell<Room>);

// SAFETY: only `Buffers::digits` and `Buffers::digits_mut` look into it, and who calls them promises that it may.
#[allow(unsafe_code)]
unsafe impl Sync for Digits {}

/// See the [module](self).
pub(super) struct Buffers {
    values: Vec<Value>,
    buffers: Vec<Vec<f32>>,
    /// By the numbers of buffers.
    digits: Vec<Digits>,
    /// Of each member. Nobody waits for another one: see [`own`](Self::own).
    own: Vec<Mutex<Own>>,
    /// How many values members make ready for themselves, at most.
    own_length: usize,
    /// Lengths of the inputs that the other lengths were found for.
    known: Vec<usize>,
    inputs: usize,
}

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
            digits: (0..count).map(|_| Digits::default()).collect(),
            own: (0..members).map(|_| Mutex::default()).collect(),
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

    /// Forgets where the inputs and `outputs` of the last run were, which may be gone by now.
    pub(super) fn forget_places(&mut self, outputs: &[usize]) {
        let (inputs, made) = self.values.split_at_mut(self.inputs);
        inputs.iter_mut().for_each(|value| value.rows = NOWHERE);
        for &output in outputs {
            // No input is an output.
            if let Some(value) = output.checked_sub(inputs.len()).and_then(|index| made.get_mut(index)) {
                value.rows = NOWHERE;
            }
        }
    }

    pub(super) fn set_input(&mut self, number: usize, input: Input) {
        let value = &mut self.values[number];
        match input {
            // Never written: no step has an input of the chain among what it writes, but for caches in place.
            Input::Floats(floats, _) => {
                value.length = floats.len();
                value.rows = Span {
                    start: floats.cast::<f32>().cast_mut(),
                    length: floats.len(),
                };
            }
            Input::Number(number) => value.number = number,
        }
    }

    /// `false`: it is of another length than the output has.
    pub(super) fn set_output(&mut self, number: usize, room: *mut [f32]) -> bool {
        let value = &mut self.values[number];
        value.rows = Span {
            start: room.cast(),
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
            own.get_mut().unwrap_or_else(PoisonError::into_inner).made_by = None;
        }
    }

    pub(super) fn length(&self, value: usize) -> usize {
        self.values[value].length
    }

    /// Sees to it that a member can make so many values ready for itself.
    pub(super) fn keep_own(&mut self, length: usize) {
        self.own_length = self.own_length.max(length);
    }

    /// What member `member` has to itself. `None`: another thread is that member right now.
    pub(super) fn own(&self, member: usize) -> Option<MutexGuard<'_, Own>> {
        match self.own[member].try_lock() {
            Ok(own) => Some(own),
            // Whatever a panic left in it is forgotten with the run.
            Err(TryLockError::Poisoned(own)) => Some(own.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
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
            let own = own.get_mut().unwrap_or_else(PoisonError::into_inner);
            own.ready.resize(self.own_length, 0.0);
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
        let span = match place {
            Place::Rows(value) => self.values[value].rows,
            Place::Ready(value) => self.values[value].ready,
        };
        assert!(!span.start.is_null(), "a run reads and writes what it has set only");
        span
    }

    /// # Safety
    /// What inputs and outputs were set to must still be there, and nobody may write it, as long as it is borrowed.
    #[allow(unsafe_code)]
    pub(super) unsafe fn read(&self, place: Place) -> &[f32] {
        let span = self.span(place);
        // SAFETY: so many values are there, and the caller's promise.
        unsafe { std::slice::from_raw_parts(span.start, span.length) }
    }

    /// A place as rows of a width.
    ///
    /// # Safety
    /// What outputs were set to must be there as long as this lives. All outputs of a place count as one for those who make
    /// parts.
    #[allow(unsafe_code)]
    pub(super) unsafe fn output(&self, place: Place, width: usize) -> Output<'_> {
        let span = self.span(place);
        // SAFETY: so many values are there, and the caller's promise.
        unsafe { Output::at(span.start, span.length, width) }
    }

    /// Where a place is, and how many values it has.
    pub(super) fn place(&self, place: Place) -> (*mut f32, usize) {
        let span = self.span(place);
        (span.start, span.length)
    }

    fn digits_of(&self, value: usize) -> *mut Room {
        let buffer = self.values[value].buffers[1];
        match buffer.and_then(|buffer| self.digits.get(buffer)) {
            Some(digits) => digits.0.get(),
            None => panic!("a value is made ready that has no buffer"),
        }
    }

    /// A value that is digits when it is ready.
    ///
    /// # Safety
    /// Nobody may write it as long as it is borrowed.
    #[allow(unsafe_code)]
    pub(super) unsafe fn digits(&self, value: usize) -> &Room {
        // SAFETY: the caller's promise.
        unsafe { &*self.digits_of(value) }
    }

    /// Where a value is made ready that is digits then.
    ///
    /// # Safety
    /// Nobody else may read or write it as long as it is borrowed.
    #[allow(unsafe_code, clippy::mut_from_ref)]
    pub(super) unsafe fn digits_mut(&self, value: usize) -> &mut Room {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.digits_of(value) }
    }
}

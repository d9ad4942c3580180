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
    Input, ProgramError,
    schedule::{Schedule, ScheduledOp},
};
use crate::{
    gemm::{Output, PackedLhsMut, Scratch},
    layer_norm::LayerNorm,
};

/// Where a step reads from or writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Slot {
    /// A value as it is.
    Plain(usize),
    /// A value made ready for products.
    Packed(usize),
}

impl Slot {
    pub(super) fn value(self) -> usize {
        match self {
            Self::Plain(value) | Self::Packed(value) => value,
        }
    }
}

/// Floats that a run reads or writes. Null: not set.
#[derive(Debug, Clone, Copy)]
struct RawSlice {
    start: *mut f32,
    length: usize,
}

// SAFETY: it only says where values are. Who reads and writes them promises that it may.
#[allow(unsafe_code)]
unsafe impl Send for RawSlice {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for RawSlice {}

const NULL_SLICE: RawSlice = RawSlice {
    start: std::ptr::null_mut(),
    length: 0,
};

/// Of a value.
#[derive(Debug, Clone, Copy)]
struct Value {
    /// What it is if it is an input of numbers.
    scalar: usize,
    length: usize,
    /// Where it is, as it is and ready.
    plain: RawSlice,
    packed: RawSlice,
    /// Buffers of the two.
    buffers: [Option<usize>; 2],
}

/// Rows that a member made ready for products.
#[derive(Default)]
pub(super) struct ThreadLocalLhs {
    packed: Vec<f32>,
    /// The address of the normalisation that they are of: the same one is asked for by several products.
    source: Option<usize>,
}

impl ThreadLocalLhs {
    /// `rows` normalised and turned.
    pub(super) fn normalized(&mut self, layer_norm: &Arc<LayerNorm>, rows: &[f32]) -> &[f32] {
        let address = Arc::as_ptr(layer_norm).addr();
        let packed = &mut self.packed[..rows.len()];
        if self.source != Some(address) {
            layer_norm.normalize_packed(rows, PackedLhsMut::all(packed, layer_norm.width()));
            self.source = Some(address);
        }
        packed
    }
}

/// Where digits of inputs are. Either one thread writes them, or some read them.
#[derive(Default)]
struct SharedBytePlanes(UnsafeCell<Scratch>);

// SAFETY: only `MemoryPlan::byte_planes` and `MemoryPlan::byte_planes_mut` look into it, and who calls them promises that it may.
#[allow(unsafe_code)]
unsafe impl Sync for SharedBytePlanes {}

/// See the [module](self).
pub(super) struct MemoryPlan {
    values: Vec<Value>,
    buffers: Vec<Vec<f32>>,
    /// By the numbers of buffers.
    byte_planes: Vec<SharedBytePlanes>,
    /// Of each member. Nobody waits for another one: see [`own`](Self::own).
    own: Vec<Mutex<ThreadLocalLhs>>,
    /// How many values members make ready for themselves, at most.
    thread_local_len: usize,
    /// Lengths of the inputs that the other lengths were found for.
    input_lengths: Vec<usize>,
    inputs: usize,
}

impl MemoryPlan {
    /// Gives each place that is not an input or an output a buffer from the phase that writes it to the last one that reads it.
    pub(super) fn new(steps: &Schedule, inputs: usize, outputs: &[usize], workers: usize) -> Self {
        let value = Value {
            scalar: 0,
            length: 0,
            plain: NULL_SLICE,
            packed: NULL_SLICE,
            buffers: [None; 2],
        };
        let mut values = vec![value; steps.values];
        let last_read = |slot: Slot| {
            let reads = |step: &ScheduledOp| step.reads().any(|read| read == slot);
            (0..steps.phase_count())
                .rev()
                .find(|&phase| steps.phase(phase).iter().any(reads))
        };
        let (mut free, mut count) = (Vec::new(), 0);
        let mut until: Vec<(usize, usize)> = Vec::new();
        for phase in 0..steps.phase_count() {
            for slot in steps.phase(phase).iter().flat_map(ScheduledOp::writes) {
                let is_output = matches!(slot, Slot::Plain(value) if outputs.contains(&value));
                if is_output {
                    continue;
                }
                // The one that was freed last is the likeliest to be in the cache.
                let buffer = free.pop().unwrap_or_else(|| {
                    count += 1;
                    count - 1
                });
                let index = usize::from(matches!(slot, Slot::Packed(_)));
                values[slot.value()].buffers[index] = Some(buffer);
                until.push((last_read(slot).unwrap_or(phase), buffer));
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
            byte_planes: (0..count).map(|_| SharedBytePlanes::default()).collect(),
            own: (0..workers).map(|_| Mutex::default()).collect(),
            thread_local_len: 0,
            input_lengths: Vec::new(),
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
        inputs.iter_mut().for_each(|value| value.plain = NULL_SLICE);
        for &output in outputs {
            // No input is an output.
            if let Some(value) = output.checked_sub(inputs.len()).and_then(|index| made.get_mut(index)) {
                value.plain = NULL_SLICE;
            }
        }
    }

    pub(super) fn set_input(&mut self, number: usize, input: Input) {
        let value = &mut self.values[number];
        match input {
            // Never written: no step has an input of the chain among what it writes, but for caches in place.
            Input::Tensor(floats, _) => {
                value.length = floats.len();
                value.plain = RawSlice {
                    start: floats.cast::<f32>().cast_mut(),
                    length: floats.len(),
                };
            }
            Input::Scalar(number) => value.scalar = number,
        }
    }

    /// `false`: it is of another length than the output has.
    pub(super) fn set_output(&mut self, number: usize, dst: *mut [f32]) -> bool {
        let value = &mut self.values[number];
        value.plain = RawSlice {
            start: dst.cast(),
            length: dst.len(),
        };
        value.length == dst.len()
    }

    /// Finds the lengths of all values, and makes room for them, unless inputs are as long as in the last run.
    pub(super) fn infer_lengths(&mut self, steps: &Schedule) -> Result<(), ProgramError> {
        let now = self.values[..self.inputs].iter().map(|value| value.length);
        if !self.input_lengths.is_empty() && now.clone().eq(self.input_lengths.iter().copied()) {
            return Ok(());
        }
        let now: Vec<usize> = now.collect();
        self.input_lengths.clear();
        for step in steps.ops() {
            step.infer_lengths(self)?;
        }
        self.allocate();
        self.input_lengths = now;
        Ok(())
    }

    /// Inputs have other values now: what members made of the last ones is not theirs.
    pub(super) fn invalidate_thread_local(&mut self) {
        for own in &mut self.own {
            own.get_mut().unwrap_or_else(PoisonError::into_inner).source = None;
        }
    }

    pub(super) fn length(&self, value: usize) -> usize {
        self.values[value].length
    }

    /// Sees to it that a member can make so many values ready for itself.
    pub(super) fn reserve_thread_local(&mut self, length: usize) {
        self.thread_local_len = self.thread_local_len.max(length);
    }

    /// What member `worker` has to itself. `None`: another thread is that member right now.
    pub(super) fn own(&self, worker: usize) -> Option<MutexGuard<'_, ThreadLocalLhs>> {
        match self.own[worker].try_lock() {
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
    fn allocate(&mut self) {
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
            own.packed.resize(self.thread_local_len, 0.0);
        }
        for value in &mut self.values {
            for (span, buffer) in [&mut value.plain, &mut value.packed].into_iter().zip(value.buffers) {
                if let Some(buffer) = buffer {
                    *span = RawSlice {
                        start: self.buffers[buffer].as_mut_ptr(),
                        length: value.length,
                    };
                }
            }
        }
    }

    pub(super) fn scalar(&self, value: usize) -> usize {
        self.values[value].scalar
    }

    fn span(&self, slot: Slot) -> RawSlice {
        let span = match slot {
            Slot::Plain(value) => self.values[value].plain,
            Slot::Packed(value) => self.values[value].packed,
        };
        assert!(!span.start.is_null(), "a run reads and writes what it has set only");
        span
    }

    /// # Safety
    /// What inputs and outputs were set to must still be there, and nobody may write it, as long as it is borrowed.
    #[allow(unsafe_code)]
    pub(super) unsafe fn read(&self, slot: Slot) -> &[f32] {
        let span = self.span(slot);
        // SAFETY: so many values are there, and the caller's promise.
        unsafe { std::slice::from_raw_parts(span.start, span.length) }
    }

    /// A place as rows of a width.
    ///
    /// # Safety
    /// What outputs were set to must be there as long as this lives. All outputs of a place count as one for those who make
    /// parts.
    #[allow(unsafe_code)]
    pub(super) unsafe fn output(&self, slot: Slot, width: usize) -> Output<'_> {
        let span = self.span(slot);
        // SAFETY: so many values are there, and the caller's promise.
        unsafe { Output::at(span.start, span.length, width) }
    }

    /// Where a place is, and how many values it has.
    pub(super) fn raw(&self, slot: Slot) -> (*mut f32, usize) {
        let span = self.span(slot);
        (span.start, span.length)
    }

    fn byte_planes_ptr(&self, value: usize) -> *mut Scratch {
        let buffer = self.values[value].buffers[1];
        match buffer.and_then(|buffer| self.byte_planes.get(buffer)) {
            Some(byte_planes) => byte_planes.0.get(),
            None => panic!("a value is made ready that has no buffer"),
        }
    }

    /// A value that is digits when it is ready.
    ///
    /// # Safety
    /// Nobody may write it as long as it is borrowed.
    #[allow(unsafe_code)]
    pub(super) unsafe fn byte_planes(&self, value: usize) -> &Scratch {
        // SAFETY: the caller's promise.
        unsafe { &*self.byte_planes_ptr(value) }
    }

    /// Where a value is made ready that is digits then.
    ///
    /// # Safety
    /// Nobody else may read or write it as long as it is borrowed.
    #[allow(unsafe_code, clippy::mut_from_ref)]
    pub(super) unsafe fn byte_planes_mut(&self, value: usize) -> &mut Scratch {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.byte_planes_ptr(value) }
    }
}

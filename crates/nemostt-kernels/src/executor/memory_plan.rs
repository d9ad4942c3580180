// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where the values of a program are stored.
//!
//! Intermediate values share a few buffers, which are reused as soon as their values have been read for the last time. So
//! they stay in the processor's cache, although all weights pass through it.

use std::{
    cell::UnsafeCell,
    sync::{Mutex, MutexGuard, PoisonError, TryLockError},
};

use super::{Input, OutputShape, schedule::Schedule, scheduled_op::ScheduledOp, thread_local_lhs::ThreadLocalLhs};
use crate::{fused_op::RawSlice, gemm::Scratch};

/// A value in one of its layouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Slot {
    /// Row-major.
    RowMajor(usize),
    /// Packed for GEMMs, in the layout that their weights need.
    Packed(usize),
}

impl Slot {
    pub(super) fn value(self) -> usize {
        match self {
            Self::RowMajor(value) | Self::Packed(value) => value,
        }
    }

    /// 0 for row-major, 1 for packed.
    pub(super) fn layout_index(self) -> usize {
        usize::from(matches!(self, Self::Packed(_)))
    }
}

/// What is known of a value. Arrays are by [layout](Slot::layout_index).
#[derive(Debug, Clone, Copy)]
struct Value {
    /// If it is a scalar input.
    scalar: usize,
    shape: OutputShape,
    length: usize,
    slices: [RawSlice; 2],
    buffers: [Option<usize>; 2],
}

/// Byte planes of a left-hand side. Either one thread writes them, or any number of threads read them.
#[derive(Default)]
struct SharedBytePlanes(UnsafeCell<Scratch>);

// SAFETY: they are accessed only by `MemoryPlan::byte_planes` and `MemoryPlan::byte_planes_mut`, whose callers guarantee the
// above.
#[allow(unsafe_code)]
unsafe impl Sync for SharedBytePlanes {}

/// See the [module](self).
pub(super) struct MemoryPlan {
    values: Vec<Value>,
    buffers: Vec<Vec<f32>>,
    /// By the same numbers as `buffers`.
    byte_planes: Vec<SharedBytePlanes>,
    /// By worker.
    thread_local: Vec<Mutex<ThreadLocalLhs>>,
    thread_local_length: usize,
    /// Lengths of the inputs for which the other lengths were inferred; empty if there are none.
    input_lengths: Vec<usize>,
    inputs: usize,
}

impl MemoryPlan {
    /// Assigns a buffer to each slot that is not an input or an output, from the phase that writes it to the last one that
    /// reads it.
    pub(super) fn new(schedule: &Schedule, inputs: usize, outputs: &[usize], workers: usize) -> Self {
        let value = Value {
            scalar: 0,
            shape: OutputShape::Rows { rows: 0, width: 0 },
            length: 0,
            slices: [RawSlice::NULL; 2],
            buffers: [None; 2],
        };
        let mut values = vec![value; schedule.values()];
        for (number, value) in values.iter_mut().enumerate().take(inputs) {
            value.shape = OutputShape::Like(number);
        }
        let last_read = |slot: Slot| {
            let reads = |op: &ScheduledOp| op.inputs.contains(&slot);
            schedule.phases().rposition(|ops| ops.iter().any(reads))
        };
        let (mut free, mut count) = (Vec::new(), 0);
        // Buffers in use, and the last phase that reads each.
        let mut used: Vec<(usize, usize)> = Vec::new();
        for (phase, ops) in schedule.phases().enumerate() {
            for &slot in ops.iter().flat_map(|op| &op.outputs) {
                if matches!(slot, Slot::RowMajor(value) if outputs.contains(&value)) {
                    continue;
                }
                // The one that was freed last is the likeliest to be in the cache.
                let buffer = free.pop().unwrap_or_else(|| {
                    count += 1;
                    count - 1
                });
                values[slot.value()].buffers[slot.layout_index()] = Some(buffer);
                used.push((last_read(slot).unwrap_or(phase), buffer));
            }
            used.retain(|&(last, buffer)| {
                let is_used = last > phase;
                if !is_used {
                    free.push(buffer);
                }
                is_used
            });
        }
        Self {
            values,
            buffers: vec![Vec::new(); count],
            byte_planes: (0..count).map(|_| SharedBytePlanes::default()).collect(),
            thread_local: (0..workers).map(|_| Mutex::default()).collect(),
            thread_local_length: 0,
            input_lengths: Vec::new(),
            inputs,
        }
    }

    /// Number of buffers.
    #[cfg(test)]
    pub(super) fn buffer_count(&self) -> usize {
        self.buffers.len()
    }

    /// Forgets the addresses of the last run's inputs and `outputs`, which may be invalid now.
    pub(super) fn unset(&mut self, outputs: &[usize]) {
        let (inputs, written) = self.values.split_at_mut(self.inputs);
        inputs.iter_mut().for_each(|value| value.slices[0] = RawSlice::NULL);
        for &output in outputs {
            // No input is an output.
            if let Some(value) = output
                .checked_sub(inputs.len())
                .and_then(|index| written.get_mut(index))
            {
                value.slices[0] = RawSlice::NULL;
            }
        }
    }

    pub(super) fn set_input(&mut self, number: usize, input: Input) {
        let value = &mut self.values[number];
        match input {
            Input::Tensor(values, _) => {
                value.length = values.len();
                // Not written through this address.
                value.slices[0] = RawSlice {
                    start: values.cast::<f32>().cast_mut(),
                    length: values.len(),
                };
            }
            Input::Scalar(scalar) => value.scalar = scalar,
        }
    }

    /// Returns `false` if the length is wrong.
    pub(super) fn set_output(&mut self, number: usize, dst: *mut [f32]) -> bool {
        let value = &mut self.values[number];
        value.slices[0] = RawSlice {
            start: dst.cast(),
            length: dst.len(),
        };
        value.length == dst.len()
    }

    /// Whether the lengths of inputs differ from those for which the other lengths were inferred.
    pub(super) fn lengths_changed(&mut self) -> bool {
        let current = self.values[..self.inputs].iter().map(|value| value.length);
        let changed = self.input_lengths.is_empty() || !current.eq(self.input_lengths.iter().copied());
        if changed {
            // Until `allocate`: inference may fail.
            self.input_lengths.clear();
        }
        changed
    }

    /// Shape of a value, as that of an input of the program if it is like one.
    pub(super) fn shape(&self, value: usize) -> OutputShape {
        self.values[value].shape
    }

    pub(super) fn length(&self, value: usize) -> usize {
        self.values[value].length
    }

    pub(super) fn set_shape(&mut self, value: usize, shape: OutputShape, length: usize) {
        let value = &mut self.values[value];
        (value.shape, value.length) = (shape, length);
    }

    pub(super) fn scalar(&self, value: usize) -> usize {
        self.values[value].scalar
    }

    /// Makes room for `length` values per thread.
    pub(super) fn reserve_thread_local(&mut self, length: usize) {
        self.thread_local_length = self.thread_local_length.max(length);
    }

    /// Forgets what threads have computed from the last run's inputs.
    pub(super) fn invalidate_thread_local(&mut self) {
        for thread_local in &mut self.thread_local {
            thread_local
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner)
                .invalidate();
        }
    }

    /// Values of worker `worker` alone; `None` if it is running on another thread.
    pub(super) fn thread_local(&self, worker: usize) -> Option<MutexGuard<'_, ThreadLocalLhs>> {
        match self.thread_local[worker].try_lock() {
            Ok(guard) => Some(guard),
            // The values are invalidated before the next run.
            Err(TryLockError::Poisoned(guard)) => Some(guard.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Allocates all buffers, after lengths have been inferred.
    pub(super) fn allocate(&mut self) {
        // First all of them: a buffer that grows for one value may move those of others.
        for value in &self.values {
            for buffer in value.buffers.iter().flatten() {
                let buffer = &mut self.buffers[*buffer];
                if buffer.len() < value.length {
                    buffer.resize(value.length, 0.0);
                }
            }
        }
        for value in &mut self.values {
            for (slice, buffer) in value.slices.iter_mut().zip(value.buffers) {
                if let Some(buffer) = buffer {
                    *slice = RawSlice {
                        start: self.buffers[buffer].as_mut_ptr(),
                        length: value.length,
                    };
                }
            }
        }
        for thread_local in &mut self.thread_local {
            let thread_local = thread_local.get_mut().unwrap_or_else(PoisonError::into_inner);
            thread_local.resize(self.thread_local_length);
        }
        let lengths = self.values[..self.inputs].iter().map(|value| value.length);
        self.input_lengths.extend(lengths);
    }

    /// The address of a slot; null if it has not been set.
    pub(super) fn raw_or_null(&self, slot: Slot) -> RawSlice {
        self.values[slot.value()].slices[slot.layout_index()]
    }

    /// The address of a slot.
    ///
    /// # Panics
    /// If it has not been set.
    pub(super) fn raw(&self, slot: Slot) -> RawSlice {
        let slice = self.raw_or_null(slot);
        assert!(!slice.start.is_null(), "{slot:?} has not been set in this run");
        slice
    }

    /// # Safety
    /// The run's inputs and outputs must be valid, and nothing may write the slot, while the result exists.
    #[allow(unsafe_code)]
    pub(super) unsafe fn read(&self, slot: Slot) -> &[f32] {
        let RawSlice { start, length } = self.raw(slot);
        // SAFETY: the slot has this length; the rest is the caller's guarantee.
        unsafe { std::slice::from_raw_parts(start, length) }
    }

    fn byte_planes_ptr(&self, value: usize) -> *mut Scratch {
        let buffer = self.values[value].buffers[1];
        match buffer.and_then(|buffer| self.byte_planes.get(buffer)) {
            Some(byte_planes) => byte_planes.0.get(),
            None => panic!("value {value} has no buffer for byte planes"),
        }
    }

    /// The byte planes of a value.
    ///
    /// # Safety
    /// Nothing may write them while the result exists.
    #[allow(unsafe_code)]
    pub(super) unsafe fn byte_planes(&self, value: usize) -> &Scratch {
        // SAFETY: the caller's guarantee.
        unsafe { &*self.byte_planes_ptr(value) }
    }

    /// As [`byte_planes`](Self::byte_planes), to write them.
    ///
    /// # Safety
    /// Nothing else may access them while the result exists.
    #[allow(unsafe_code, clippy::mut_from_ref)]
    pub(super) unsafe fn byte_planes_mut(&self, value: usize) -> &mut Scratch {
        // SAFETY: the caller's guarantee.
        unsafe { &mut *self.byte_planes_ptr(value) }
    }
}

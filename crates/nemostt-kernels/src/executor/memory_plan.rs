// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where the values of a program are stored.
//!
//! Intermediate values share a few buffers, which are reused as soon as their values have been read for the last time. So
//! they stay in the processor's cache, although all weights pass through it.
//!
//! In a batch, a buffer contains the rows of all streams, one stream after the other. Inputs and outputs of the program stay
//! where each stream has them, except for those that a [row-wise](FusedOp::is_row_wise) operation reads or writes: they are
//! copied from or to a buffer, the *staging* buffer. Large ones, such as caches, are never among these.

mod access;
mod staging;
mod value;

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

pub(super) use self::value::Slot;
use self::value::{BytePlanesSlot, Port, Value};
#[cfg(doc)]
use super::FusedOp;
use super::{Input, OutputShape, schedule::Schedule, scheduled_op::ScheduledOp, thread_local_lhs::ThreadLocalLhs};
use crate::{fused_op::RawSlice, gemm::BytePlanesBuffer};

/// See the [module](self).
pub(super) struct MemoryPlan {
    values: Vec<Value>,
    /// Inputs and outputs of the first stream, then of the next one.
    ports: Vec<Port>,
    port_count: usize,
    streams: usize,
    buffers: Vec<Vec<f32>>,
    /// By the same numbers as `buffers`.
    byte_planes: Vec<BytePlanesBuffer>,
    /// By worker.
    thread_local: Vec<Mutex<ThreadLocalLhs>>,
    thread_local_length: usize,
    /// Lengths of the inputs for which the other lengths were inferred; empty if there are none.
    input_lengths: Vec<usize>,
    /// Streams for which buffers were allocated; 0 if they were not.
    allocated_streams: usize,
    inputs: usize,
}

impl MemoryPlan {
    /// Assigns a buffer to each slot that is not an input or an output, from the phase that writes it to the last one that
    /// reads it.
    pub(super) fn new(schedule: &Schedule, inputs: usize, outputs: &[usize], workers: usize) -> Self {
        let value = Value {
            shape: OutputShape::Rows { rows: 0, width: 0 },
            length: 0,
            slices: [RawSlice::NULL; 2],
            buffers: [None; 2],
            port: None,
            is_staged: false,
            byte_planes: None,
        };
        let mut values = vec![value; schedule.values()];
        for (number, value) in values.iter_mut().enumerate().take(inputs) {
            value.shape = OutputShape::Like(number);
        }
        for (port, value) in (0..inputs).chain(outputs.iter().copied()).enumerate() {
            values[value].port = Some(port);
        }
        for (value, k) in schedule.phases().flatten().filter_map(ScheduledOp::byte_planes) {
            values[value].byte_planes = Some(BytePlanesSlot { k, planes: None });
        }
        let last_read = |slot: Slot| {
            let reads = |op: &ScheduledOp| op.reads(slot);
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
        // Staging buffers are in use from the beginning to the end.
        for number in schedule.row_wise_values() {
            let value = &mut values[number];
            if value.port.is_some() && !value.is_staged {
                value.is_staged = true;
                value.buffers[0] = Some(count);
                count += 1;
            }
        }
        Self {
            values,
            ports: Vec::new(),
            port_count: inputs + outputs.len(),
            streams: 0,
            buffers: vec![Vec::new(); count],
            byte_planes: (0..count).map(|_| BytePlanesBuffer::default()).collect(),
            thread_local: (0..workers).map(|_| Mutex::default()).collect(),
            thread_local_length: 0,
            input_lengths: Vec::new(),
            allocated_streams: 0,
            inputs,
        }
    }

    /// Number of buffers.
    #[cfg(test)]
    pub(super) fn buffer_count(&self) -> usize {
        self.buffers.len()
    }

    /// Prepares a run of a batch of `streams` streams. Forgets the addresses of the last run's inputs and outputs, which may
    /// be invalid now.
    pub(super) fn start(&mut self, streams: usize) {
        let unset = Port {
            slice: RawSlice::NULL,
            scalar: 0,
        };
        self.ports.clear();
        self.ports.resize(streams * self.port_count, unset);
        self.streams = streams;
    }

    /// Streams of the batch.
    pub(super) fn streams(&self) -> usize {
        self.streams
    }

    /// Returns `false` if it is longer or shorter than that of the first stream.
    pub(super) fn set_input(&mut self, stream: usize, number: usize, input: Input) -> bool {
        let value = &mut self.values[number];
        // Inputs are the first ports.
        let port = &mut self.ports[stream * self.port_count + number];
        match input {
            Input::Tensor(values, _) => {
                // Not written through this address.
                port.slice = RawSlice {
                    start: values.cast::<f32>().cast_mut(),
                    length: values.len(),
                };
                if stream == 0 {
                    value.length = values.len();
                }
                value.length == values.len()
            }
            Input::Scalar(scalar) => {
                port.scalar = scalar;
                true
            }
        }
    }

    /// Sets output `index` of the program. Returns `false` if the length is wrong.
    pub(super) fn set_output(&mut self, stream: usize, (index, number): (usize, usize), dst: *mut [f32]) -> bool {
        let port = &mut self.ports[stream * self.port_count + self.inputs + index];
        port.slice = RawSlice {
            start: dst.cast(),
            length: dst.len(),
        };
        self.values[number].length == dst.len()
    }

    /// Whether the lengths of inputs differ from those for which the other lengths were inferred.
    pub(super) fn lengths_changed(&mut self) -> bool {
        let current = self.values[..self.inputs].iter().map(|value| value.length);
        let changed = self.input_lengths.is_empty() || !current.eq(self.input_lengths.iter().copied());
        if changed {
            // Until `allocate`: inference may fail.
            self.input_lengths.clear();
            self.allocated_streams = 0;
            self.thread_local_length = 0;
        }
        changed
    }

    /// Whether buffers were allocated for a batch of another size.
    pub(super) fn streams_changed(&self) -> bool {
        self.allocated_streams != self.streams
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

    /// The value of a scalar input.
    pub(super) fn scalar(&self, value: usize, stream: usize) -> usize {
        self.port(value, stream).map_or(0, |port| port.scalar)
    }

    fn port(&self, value: usize, stream: usize) -> Option<&Port> {
        let port = self.values[value].port?;
        Some(&self.ports[stream * self.port_count + port])
    }

    /// Makes room for `length` values per thread and stream.
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

    /// Forgets for how many streams buffers were allocated.
    pub(super) fn forget_streams(&mut self) {
        self.allocated_streams = 0;
    }

    /// Allocates all buffers, after lengths have been inferred. Returns `false` if a size overflows.
    pub(super) fn allocate(&mut self) -> bool {
        let streams = self.streams;
        let longest = self.values.iter().map(|value| value.length).max();
        let longest = longest.unwrap_or_default().max(self.thread_local_length);
        if longest
            .checked_mul(streams)
            .is_none_or(|count| count > isize::MAX as usize / size_of::<f32>())
        {
            return false;
        }
        // First all of them: a buffer that grows for one value may move those of others.
        for value in &self.values {
            for buffer in value.buffers(streams).into_iter().flatten() {
                let buffer = &mut self.buffers[buffer];
                if buffer.len() < streams * value.length {
                    buffer.resize(streams * value.length, 0.0);
                }
            }
        }
        for value in &self.values {
            if let Some((buffer, rows, k)) = value.byte_planes_size(streams)
                && !self.byte_planes[buffer].reserve(rows, k)
            {
                return false;
            }
        }
        for value in &mut self.values {
            if let Some((buffer, rows, k)) = value.byte_planes_size(streams) {
                let planes = Some(self.byte_planes[buffer].planes(rows, k));
                value.byte_planes = Some(BytePlanesSlot { k, planes });
            }
            let buffers = value.buffers(streams);
            for (slice, buffer) in value.slices.iter_mut().zip(buffers) {
                *slice = match buffer {
                    Some(buffer) => RawSlice {
                        start: self.buffers[buffer].as_mut_ptr(),
                        length: streams * value.length,
                    },
                    None => RawSlice::NULL,
                };
            }
        }
        for thread_local in &mut self.thread_local {
            let thread_local = thread_local.get_mut().unwrap_or_else(PoisonError::into_inner);
            thread_local.resize(streams * self.thread_local_length);
        }
        let lengths = self.values[..self.inputs].iter().map(|value| value.length);
        self.input_lengths.clear();
        self.input_lengths.extend(lengths);
        self.allocated_streams = streams;
        true
    }
}

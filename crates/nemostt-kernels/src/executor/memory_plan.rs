// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where the values of a program are stored.
//!
//! Intermediate values share a few buffers, which are reused as soon as their values have been read for the last time. So
//! they stay in the processor's cache, although all weights pass through it.
//!
//! In a batch, a buffer contains the rows of all streams, one stream after the other. Inputs and outputs of the program stay
//! where each stream has them, except for those that a [row-wise](FusedOp::is_row_wise) operation reads or writes: they are
//! copied from or to a buffer, the *staging* buffer. Large ones, such as caches, are never among these.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

#[cfg(doc)]
use super::FusedOp;
use super::{Input, OutputShape, schedule::Schedule, scheduled_op::ScheduledOp, thread_local_lhs::ThreadLocalLhs};
use crate::{
    fused_op::RawSlice,
    gemm::{BytePlanesBuffer, RawBytePlanes},
};

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
    /// Of one stream.
    shape: OutputShape,
    /// Of one stream.
    length: usize,
    /// Of all streams; null if it has no buffer.
    slices: [RawSlice; 2],
    buffers: [Option<usize>; 2],
    /// For an input or output of the program: where to find it in [`MemoryPlan::ports`].
    port: Option<usize>,
    /// Whether a batch needs it in a buffer although it is an input or output.
    is_staged: bool,
    /// If its packed layout is byte planes.
    byte_planes: Option<BytePlanesSlot>,
}

/// The byte planes of a value, which are in a buffer of the same number as others are.
#[derive(Debug, Clone, Copy)]
struct BytePlanesSlot {
    /// Values per row.
    k: usize,
    /// Of all streams; `None` until they are allocated.
    planes: Option<RawBytePlanes>,
}

impl Value {
    /// The buffers of floats that it needs in a batch of `streams` streams: a single stream needs no staging.
    fn buffers(&self, streams: usize) -> [Option<usize>; 2] {
        let needs_staging = !self.is_staged || streams > 1;
        [
            self.buffers[0].filter(|_| needs_staging),
            self.buffers[1].filter(|_| self.byte_planes.is_none()),
        ]
    }

    /// Its byte planes in a batch of `streams` streams: the number of the buffer, and how many rows of how many values.
    fn byte_planes_size(&self, streams: usize) -> Option<(usize, usize, usize)> {
        let (slot, buffer) = (self.byte_planes?, self.buffers[1]?);
        Some((buffer, streams * self.length / slot.k, slot.k))
    }
}

/// An input or output of the program in a run.
#[derive(Debug, Clone, Copy)]
struct Port {
    slice: RawSlice,
    /// If it is a scalar input.
    scalar: usize,
}

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

    /// Copies staged inputs of a batch to their buffers.
    ///
    /// # Safety
    /// The run's inputs must be valid, and no operation may be running.
    #[allow(unsafe_code)]
    pub(super) unsafe fn gather(&mut self) {
        // SAFETY: the caller's guarantee; inputs are the first ports.
        unsafe { self.copy_staged(0..self.inputs, |port, buffer| (port, buffer)) }
    }

    /// Copies staged outputs of a batch from their buffers.
    ///
    /// # Safety
    /// The run's outputs must be valid, and all operations must have run.
    #[allow(unsafe_code)]
    pub(super) unsafe fn scatter(&mut self) {
        // SAFETY: the caller's guarantee; outputs are the last ports.
        unsafe { self.copy_staged(self.inputs..self.port_count, |port, buffer| (buffer, port)) }
    }

    /// Copies from the first to the second tensor of a pair, for staged values with these ports.
    ///
    /// # Safety
    /// The tensors must be valid.
    #[allow(unsafe_code)]
    unsafe fn copy_staged(
        &mut self,
        ports: std::ops::Range<usize>,
        pair: impl Fn(RawSlice, RawSlice) -> (RawSlice, RawSlice),
    ) {
        if self.streams == 1 {
            return;
        }
        for value in self.values.iter().filter(|value| value.is_staged) {
            let Some(port) = value.port.filter(|port| ports.contains(port)) else {
                continue;
            };
            for stream in 0..self.streams {
                let given = self.ports[stream * self.port_count + port].slice;
                let (from, to) = pair(given, value.slices[0].part(stream, self.streams));
                assert!(from.length == to.length && !from.start.is_null());
                // SAFETY: both are valid and have this length; a buffer overlaps no input or output.
                unsafe { std::ptr::copy_nonoverlapping(from.start, to.start, from.length) };
            }
        }
    }

    /// The address of a slot with the rows of all streams; null if it has not been set, or the streams have it in different
    /// places.
    pub(super) fn raw_or_null(&self, slot: Slot) -> RawSlice {
        match self.streams {
            1 => self.stream_or_null(slot, 0),
            _ => self.values[slot.value()].slices[slot.layout_index()],
        }
    }

    /// The address of a slot of one stream, which must not be packed if there are several; null if it has not been set.
    pub(super) fn stream_or_null(&self, slot: Slot, stream: usize) -> RawSlice {
        let value = &self.values[slot.value()];
        let is_in_buffer = value.is_staged && self.streams > 1;
        match (slot, self.port(slot.value(), stream)) {
            (Slot::RowMajor(_), Some(port)) if !is_in_buffer => port.slice,
            _ => value.slices[slot.layout_index()].part(stream, self.streams),
        }
    }

    /// The address of a slot with the rows of all streams.
    ///
    /// # Panics
    /// If it has not been set.
    pub(super) fn raw(&self, slot: Slot) -> RawSlice {
        let slice = self.raw_or_null(slot);
        assert!(!slice.start.is_null(), "{slot:?} has not been set in this run");
        slice
    }

    /// The address of a slot of one stream, as [`stream_or_null`](Self::stream_or_null).
    ///
    /// # Panics
    /// If it has not been set.
    pub(super) fn stream(&self, slot: Slot, stream: usize) -> RawSlice {
        let slice = self.stream_or_null(slot, stream);
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

    /// Where the byte planes of a value are stored.
    ///
    /// # Panics
    /// If it has none.
    pub(super) fn byte_planes(&self, value: usize) -> RawBytePlanes {
        match self.values[value].byte_planes {
            Some(BytePlanesSlot {
                planes: Some(planes), ..
            }) => planes,
            _ => panic!("value {value} has no byte planes"),
        }
    }
}

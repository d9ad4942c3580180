// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where operations find values in a run.

use super::{MemoryPlan, Slot, value::BytePlanesSlot};
use crate::{fused_op::RawSlice, gemm::RawBytePlanes};

impl MemoryPlan {
    /// The address of a slot with the rows of all streams; null if it has not been set, or the streams have it in different
    /// places.
    pub(in crate::executor) fn raw_or_null(&self, slot: Slot) -> RawSlice {
        match self.streams {
            1 => self.stream_or_null(slot, 0),
            _ => self.values[slot.value()].slices[slot.layout_index()],
        }
    }

    /// The address of a slot of one stream, which must not be packed if there are several; null if it has not been set.
    pub(in crate::executor) fn stream_or_null(&self, slot: Slot, stream: usize) -> RawSlice {
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
    pub(in crate::executor) fn raw(&self, slot: Slot) -> RawSlice {
        let slice = self.raw_or_null(slot);
        assert!(!slice.start.is_null(), "{slot:?} has not been set in this run");
        slice
    }

    /// The address of a slot of one stream, as [`stream_or_null`](Self::stream_or_null).
    ///
    /// # Panics
    /// If it has not been set.
    pub(in crate::executor) fn stream(&self, slot: Slot, stream: usize) -> RawSlice {
        let slice = self.stream_or_null(slot, stream);
        assert!(!slice.start.is_null(), "{slot:?} has not been set in this run");
        slice
    }

    /// # Safety
    /// The run's inputs and outputs must be valid, and nothing may write the slot, while the result exists.
    #[allow(unsafe_code)]
    pub(in crate::executor) unsafe fn read(&self, slot: Slot) -> &[f32] {
        let RawSlice { start, length } = self.raw(slot);
        // SAFETY: the slot has this length; the rest is the caller's guarantee.
        unsafe { std::slice::from_raw_parts(start, length) }
    }

    /// Where the byte planes of a value are stored.
    ///
    /// # Panics
    /// If it has none.
    pub(in crate::executor) fn byte_planes(&self, value: usize) -> RawBytePlanes {
        match self.values[value].byte_planes {
            Some(BytePlanesSlot {
                planes: Some(planes), ..
            }) => planes,
            _ => panic!("value {value} has no byte planes"),
        }
    }
}

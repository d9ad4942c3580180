// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is known of the values of a program, and of its inputs and outputs.

use crate::{executor::OutputShape, fused_op::RawSlice, gemm::RawBytePlanes};

/// A value in one of its layouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::executor) enum Slot {
    /// Row-major.
    RowMajor(usize),
    /// Packed for GEMMs, in the layout that their weights need.
    Packed(usize),
}

impl Slot {
    pub(in crate::executor) fn value(self) -> usize {
        match self {
            Self::RowMajor(value) | Self::Packed(value) => value,
        }
    }

    /// 0 for row-major, 1 for packed.
    pub(in crate::executor) fn layout_index(self) -> usize {
        usize::from(matches!(self, Self::Packed(_)))
    }
}

/// What is known of a value. Arrays are by [layout](Slot::layout_index).
#[derive(Debug, Clone, Copy)]
pub(super) struct Value {
    /// Of one stream.
    pub(super) shape: OutputShape,
    /// Of one stream.
    pub(super) length: usize,
    /// Of all streams; null if it has no buffer.
    pub(super) slices: [RawSlice; 2],
    pub(super) buffers: [Option<usize>; 2],
    /// For an input or output of the program: where to find it in [`MemoryPlan::ports`](super::MemoryPlan::ports).
    pub(super) port: Option<usize>,
    /// Whether a batch needs it in a buffer although it is an input or output.
    pub(super) is_staged: bool,
    /// If its packed layout is byte planes.
    pub(super) byte_planes: Option<BytePlanesSlot>,
}

/// The byte planes of a value, which are in a buffer of the same number as others are.
#[derive(Debug, Clone, Copy)]
pub(super) struct BytePlanesSlot {
    /// Values per row.
    pub(super) k: usize,
    /// Of all streams; `None` until they are allocated.
    pub(super) planes: Option<RawBytePlanes>,
}

impl Value {
    /// The buffers of floats that it needs in a batch of `streams` streams: a single stream needs no staging.
    pub(super) fn buffers(&self, streams: usize) -> [Option<usize>; 2] {
        let needs_staging = !self.is_staged || streams > 1;
        [
            self.buffers[0].filter(|_| needs_staging),
            self.buffers[1].filter(|_| self.byte_planes.is_none()),
        ]
    }

    /// Its byte planes in a batch of `streams` streams: the number of the buffer, and how many rows of how many values.
    pub(super) fn byte_planes_size(&self, streams: usize) -> Option<(usize, usize, usize)> {
        let (slot, buffer) = (self.byte_planes?, self.buffers[1]?);
        Some((buffer, streams * self.length / slot.k, slot.k))
    }
}

/// An input or output of the program in a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Port {
    pub(super) slice: RawSlice,
    /// If it is a scalar input.
    pub(super) scalar: usize,
}

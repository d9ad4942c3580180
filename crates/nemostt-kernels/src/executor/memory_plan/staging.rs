// SPDX-License-Identifier: MIT OR Apache-2.0

//! Copying staged inputs and outputs of a batch.

use std::ops::Range;

use super::MemoryPlan;
use crate::fused_op::RawSlice;

impl MemoryPlan {
    /// Copies staged inputs of a batch to their buffers.
    ///
    /// # Safety
    /// The run's inputs must be valid, and no operation may be running.
    #[allow(unsafe_code)]
    pub(in crate::executor) unsafe fn gather(&mut self) {
        // SAFETY: the caller's guarantee; inputs are the first ports.
        unsafe { self.copy_staged(0..self.inputs, |port, buffer| (port, buffer)) }
    }

    /// Copies staged outputs of a batch from their buffers.
    ///
    /// # Safety
    /// The run's outputs must be valid, and all operations must have run.
    #[allow(unsafe_code)]
    pub(in crate::executor) unsafe fn scatter(&mut self) {
        // SAFETY: the caller's guarantee; outputs are the last ports.
        unsafe { self.copy_staged(self.inputs..self.port_count, |port, buffer| (buffer, port)) }
    }

    /// Copies from the first to the second tensor of a pair, for staged values with these ports.
    ///
    /// # Safety
    /// The tensors must be valid.
    #[allow(unsafe_code)]
    unsafe fn copy_staged(&mut self, ports: Range<usize>, pair: impl Fn(RawSlice, RawSlice) -> (RawSlice, RawSlice)) {
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
}

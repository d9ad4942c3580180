// SPDX-License-Identifier: MIT OR Apache-2.0

//! Cached keys or values in a ring buffer, and their update.

#![allow(unsafe_code)]

use std::{marker::PhantomData, slice};

use super::AttentionDims;

/// The cache of a step, \[heads, left_context, head_dim\], and the buffer of the next one. These may be the same: then
/// rows are not copied, and new rows overwrite the oldest.
#[derive(Debug, Clone, Copy)]
pub struct KvRing<'a> {
    current: *const f32,
    next: *mut f32,
    length: usize,
    values: PhantomData<&'a mut [f32]>,
}

// SAFETY: it only stores where the values are. Creating heads is unsafe, and callers guarantee exclusive access.
unsafe impl Sync for KvRing<'_> {}

impl<'a> KvRing<'a> {
    /// `length` values at `current`, and as many at `next`.
    ///
    /// # Safety
    /// Both must be valid for the lifetime of the ring, and be either the same or disjoint.
    pub unsafe fn new(current: *const f32, next: *mut f32, length: usize) -> Self {
        Self {
            current,
            next,
            length,
            values: PhantomData,
        }
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Address of a head's rows; it is valid only if there is such a head.
    pub(super) fn head_ptr(&self, head: usize, dims: AttentionDims) -> *const f32 {
        self.current.wrapping_add(head * dims.left_context * dims.head_dim)
    }

    /// The rows of head `head`.
    ///
    /// # Panics
    /// If the head is out of range.
    ///
    /// # Safety
    /// While the result exists, its rows must not be written in any other way, and the [next](CachedHead::push) ones
    /// must not be read; no other [`CachedHead`] of the same head may exist, not even of a copy of the ring.
    pub unsafe fn head(&self, head: usize, dims: AttentionDims) -> CachedHead<'a> {
        let size = dims.left_context * dims.head_dim;
        let start = head.checked_mul(size);
        assert!(start.is_some_and(|start| start <= self.length && size <= self.length - start));
        // SAFETY: the slices are within the buffers and exclusive. If both buffers are the same, only one reference is
        // created.
        unsafe {
            let next = slice::from_raw_parts_mut(self.next.add(head * size), size);
            match std::ptr::eq(self.current, self.next) {
                true => CachedHead { current: None, next },
                false => CachedHead {
                    current: Some(slice::from_raw_parts(self.head_ptr(head, dims), size)),
                    next,
                },
            }
        }
    }
}

/// One head's rows of a cache.
#[derive(Debug)]
pub struct CachedHead<'a> {
    /// The current rows, if they are not in the same buffer as the next ones.
    current: Option<&'a [f32]>,
    next: &'a mut [f32],
}

impl CachedHead<'_> {
    /// The current rows.
    pub(super) fn rows(&self) -> &[f32] {
        self.current.unwrap_or(self.next)
    }

    /// Updates the cache for the next step: the rows of head `head` in `new`, \[frames, d_model\], overwrite the
    /// oldest.
    ///
    /// # Panics
    /// If the cache has another size, or the head is out of range.
    pub(super) fn push(self, head: usize, dims: AttentionDims, new: &[f32], ring_head: usize) {
        let AttentionDims {
            head_dim, left_context, ..
        } = dims;
        if let Some(current) = self.current {
            self.next.copy_from_slice(current);
        }
        if left_context == 0 {
            return;
        }
        for (frame, row) in new.chunks_exact(dims.d_model()).enumerate() {
            let row_index = (ring_head + frame) % left_context;
            self.next[row_index * head_dim..][..head_dim].copy_from_slice(&row[head * head_dim..][..head_dim]);
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Cached keys or values, and what becomes of them in a step.

#![allow(unsafe_code)]

use std::{marker::PhantomData, slice};

use super::AttentionDims;

/// The cache of a step, \[heads, left, width\], and that of the next one, which may be in the same place: then nothing is
/// moved, but new rows go over the oldest.
#[derive(Debug, Clone, Copy)]
pub struct KvRing<'a> {
    current: *const f32,
    next: *mut f32,
    length: usize,
    values: PhantomData<&'a mut [f32]>,
}

// SAFETY: it only says where the values are. Heads are made by who promises that nobody else has the same.
unsafe impl Sync for KvRing<'_> {}

impl<'a> KvRing<'a> {
    /// `length` values at `current`, and as many at `next`.
    ///
    /// # Safety
    /// They must be there for as long as this lives, and be either the same or have no value in common.
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

    /// Where a head's part is, if there is one.
    pub(super) fn head_ptr(&self, head: usize, dims: AttentionDims) -> *const f32 {
        self.current.wrapping_add(head * dims.left_context * dims.head_dim)
    }

    /// The part of head `head`.
    ///
    /// # Panics
    /// If there is no such part.
    ///
    /// # Safety
    /// As long as the part lives, nobody else may write what is in it, nor read what is in its [next](CachedHead::push) one; no
    /// other part of the same head may live, not even one of a copy of the cache.
    pub unsafe fn head(&self, head: usize, dims: AttentionDims) -> CachedHead<'a> {
        let size = dims.left_context * dims.head_dim;
        let start = head.checked_mul(size);
        assert!(start.is_some_and(|start| start <= self.length && size <= self.length - start));
        // SAFETY: that lies within, and is this head's alone. What is in the same place has one reference.
        unsafe {
            let next = slice::from_raw_parts_mut(self.next.add(head * size), size);
            match std::ptr::eq(self.current, self.next) {
                true => CachedHead { apart: None, next },
                false => CachedHead {
                    apart: Some(slice::from_raw_parts(self.head_ptr(head, dims), size)),
                    next,
                },
            }
        }
    }
}

/// A head's part of a cache.
#[derive(Debug)]
pub struct CachedHead<'a> {
    /// Where it is, if that is not where the next one goes.
    apart: Option<&'a [f32]>,
    next: &'a mut [f32],
}

impl CachedHead<'_> {
    /// Its rows.
    pub(super) fn rows(&self) -> &[f32] {
        self.apart.unwrap_or(self.next)
    }

    /// Makes it that of the next step: what is head `head`'s of `new`, \[frames, heads · width\], goes where the oldest rows
    /// are.
    ///
    /// # Panics
    /// If it is of another size, or there is no such head.
    pub(super) fn push(self, head: usize, dims: AttentionDims, new: &[f32], ring_head: usize) {
        let AttentionDims {
            head_dim, left_context, ..
        } = dims;
        if let Some(current) = self.apart {
            self.next.copy_from_slice(current);
        }
        if left_context == 0 {
            return;
        }
        for (frame, row) in new.chunks_exact(dims.d_model()).enumerate() {
            let place = (ring_head + frame) % left_context;
            self.next[place * head_dim..][..head_dim].copy_from_slice(&row[head * head_dim..][..head_dim]);
        }
    }
}

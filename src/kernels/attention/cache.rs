// SPDX-License-Identifier: MIT OR Apache-2.0

//! Cached keys or values, and what becomes of them in a step.

#![allow(unsafe_code)]

use std::{marker::PhantomData, slice};

use super::Sizes;

/// The cache of a step, \[heads, left, width\], and that of the next one, which may be in the same place: then nothing is
/// moved, but new rows go over the oldest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cache<'a> {
    now: *const f32,
    next: *mut f32,
    length: usize,
    values: PhantomData<&'a mut [f32]>,
}

// SAFETY: threads share it only to work on different heads: see `Attention::attend`.
unsafe impl Sync for Cache<'_> {}

impl Cache<'_> {
    /// `length` values at `now`, and as many at `next`.
    ///
    /// # Safety
    /// They must be there for as long as this lives, and be either the same or have no value in common; nobody else may
    /// write the first, or read or write the others.
    pub(crate) unsafe fn new(now: *const f32, next: *mut f32, length: usize) -> Self {
        Self {
            now,
            next,
            length,
            values: PhantomData,
        }
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Where a head's part is.
    pub(super) fn place(&self, head: usize, sizes: Sizes) -> *const f32 {
        self.now.wrapping_add(head * sizes.left * sizes.width)
    }

    /// A head's part.
    ///
    /// # Safety
    /// Nobody may [renew](Self::renew) it as long as it is borrowed.
    ///
    /// # Panics
    /// If there is no such part.
    pub(super) unsafe fn part(&self, head: usize, sizes: Sizes) -> &[f32] {
        let size = sizes.left * sizes.width;
        assert!((head + 1) * size <= self.length);
        // SAFETY: that lies within.
        unsafe { slice::from_raw_parts(self.place(head, sizes), size) }
    }

    /// Makes a head's part that of the next step: what is this head's of `new`, \[frames, heads · width\], goes where the oldest
    /// rows are.
    ///
    /// # Safety
    /// No two threads may renew the same part at the same time, nor may it be borrowed.
    ///
    /// # Panics
    /// If there is no such part, or no such row.
    pub(super) unsafe fn renew(&self, head: usize, sizes: Sizes, new: &[f32], oldest: usize) {
        let Sizes { width, left, .. } = sizes;
        let size = left * width;
        assert!((head + 1) * size <= self.length);
        // SAFETY: that lies within, and is this head's alone.
        let next = unsafe {
            let next = self.next.add(head * size);
            let now = self.place(head, sizes);
            if !std::ptr::eq(now, next) {
                now.copy_to_nonoverlapping(next, size);
            }
            slice::from_raw_parts_mut(next, size)
        };
        if left == 0 {
            return;
        }
        for (frame, row) in new.chunks_exact(sizes.all()).enumerate() {
            let place = (oldest + frame) % left;
            next[place * width..][..width].copy_from_slice(&row[head * width..][..width]);
        }
    }
}

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

// SAFETY: it only says where the values are. Heads are made by who promises that nobody else has the same.
unsafe impl Sync for Cache<'_> {}

impl<'a> Cache<'a> {
    /// `length` values at `now`, and as many at `next`.
    ///
    /// # Safety
    /// They must be there for as long as this lives, and be either the same or have no value in common.
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

    /// Where a head's part is, if there is one.
    pub(super) fn place(&self, head: usize, sizes: Sizes) -> *const f32 {
        self.now.wrapping_add(head * sizes.left * sizes.width)
    }

    /// The part of head `head`.
    ///
    /// # Panics
    /// If there is no such part.
    ///
    /// # Safety
    /// As long as the part lives, nobody else may write what is in it, nor read what is in its [next](Cached::renew) one; no
    /// other part of the same head may live, not even one of a copy of the cache.
    pub(crate) unsafe fn head(&self, head: usize, sizes: Sizes) -> Cached<'a> {
        let size = sizes.left * sizes.width;
        let start = head.checked_mul(size);
        assert!(start.is_some_and(|start| start <= self.length && size <= self.length - start));
        // SAFETY: that lies within, and is this head's alone. What is in the same place has one reference.
        unsafe {
            let next = slice::from_raw_parts_mut(self.next.add(head * size), size);
            match std::ptr::eq(self.now, self.next) {
                true => Cached { apart: None, next },
                false => Cached {
                    apart: Some(slice::from_raw_parts(self.place(head, sizes), size)),
                    next,
                },
            }
        }
    }
}

/// A head's part of a cache.
#[derive(Debug)]
pub(crate) struct Cached<'a> {
    /// Where it is, if that is not where the next one goes.
    apart: Option<&'a [f32]>,
    next: &'a mut [f32],
}

impl Cached<'_> {
    /// Its rows.
    pub(super) fn rows(&self) -> &[f32] {
        self.apart.unwrap_or(self.next)
    }

    /// Makes it that of the next step: what is head `head`'s of `new`, \[frames, heads · width\], goes where the oldest rows
    /// are.
    ///
    /// # Panics
    /// If it is of another size, or there is no such head.
    pub(super) fn renew(self, head: usize, sizes: Sizes, new: &[f32], oldest: usize) {
        let Sizes { width, left, .. } = sizes;
        if let Some(now) = self.apart {
            self.next.copy_from_slice(now);
        }
        if left == 0 {
            return;
        }
        for (frame, row) in new.chunks_exact(sizes.all()).enumerate() {
            let place = (oldest + frame) % left;
            self.next[place * width..][..width].copy_from_slice(&row[head * width..][..width]);
        }
    }
}

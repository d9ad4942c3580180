// SPDX-License-Identifier: MIT OR Apache-2.0

//! Cached keys or values of a head in a ring buffer, and their update.

use super::AttentionDims;

/// One head's rows of a cache, \[rows, head_dim\], and where the rows for the next step are written. This may be the same
/// place: then rows are not copied.
///
/// A ring of `left_context` rows is full: new rows overwrite the oldest, which the step has read. If it has `frames` rows
/// more, these are behind the newest, and a step writes only them. Then a step that was stopped anywhere can run again.
#[derive(Debug)]
pub struct CachedHead<'a> {
    /// `None` if the next rows are written in the same place.
    current: Option<&'a [f32]>,
    next: &'a mut [f32],
}

impl<'a> CachedHead<'a> {
    /// The rows `current`, or those of `next` if there are none.
    pub fn new(current: Option<&'a [f32]>, next: &'a mut [f32]) -> Self {
        Self { current, next }
    }

    /// The current rows.
    pub(super) fn rows(&self) -> &[f32] {
        self.current.unwrap_or(self.next)
    }

    /// Values of both; `None` if they differ.
    pub(super) fn length(&self) -> Option<usize> {
        Some(self.next.len()).filter(|&length| self.rows().len() == length)
    }

    /// Updates the cache for the next step: the rows of head `head` in `new`, \[frames, d_model\], follow the newest.
    ///
    /// # Panics
    /// If the head is out of range.
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
        let rows = self.next.len() / head_dim;
        for (frame, row) in new.chunks_exact(dims.d_model()).enumerate() {
            let row_index = (ring_head + left_context + frame) % rows;
            self.next[row_index * head_dim..][..head_dim].copy_from_slice(&row[head * head_dim..][..head_dim]);
        }
    }
}

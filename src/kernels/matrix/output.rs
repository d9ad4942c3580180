// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where results go.

use std::marker::PhantomData;

use super::TurnedOutput;

/// Either of two ways to lay down rows.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// One row behind the other.
    Rows(&'a Output<'a>),
    /// As products with [integers](super::integers) read them.
    Turned(&'a TurnedOutput<'a>),
}

/// Where a product goes: rows of the same width, of which several threads write different columns.
#[derive(Debug)]
pub struct Output<'a> {
    start: *mut f32,
    pub(super) rows: usize,
    pub(super) columns: usize,
    values: PhantomData<&'a mut [f32]>,
}

// SAFETY: threads share it only to write to different places: see `Weights::multiply`.
#[allow(unsafe_code)]
unsafe impl Sync for Output<'_> {}

impl<'a> Output<'a> {
    /// Rows of `columns` values each.
    pub fn new(values: &'a mut [f32], columns: usize) -> Self {
        Self {
            start: values.as_mut_ptr(),
            rows: values.len() / columns.max(1),
            columns,
            values: PhantomData,
        }
    }

    /// `count` values from `start` on, as rows of `columns` values each.
    ///
    /// # Safety
    /// They must be there for as long as this lives, and nobody may read or write what is being written.
    #[allow(unsafe_code)]
    pub(in super::super) unsafe fn at(start: *mut f32, count: usize, columns: usize) -> Self {
        Self {
            start,
            rows: count / columns.max(1),
            columns,
            values: PhantomData,
        }
    }

    /// Writes the first of `values` to row `row` from column `column` on, as far as the row goes. Whoever calls it sees to
    /// it that no other thread writes there.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(in super::super) fn put(&self, row: usize, column: usize, values: &[f32]) {
        let count = values.len().min(self.columns - column);
        let place = self.place(row, column);
        // SAFETY: no more than the row is written. What threads write at a time are different columns: `Weights::multiply`
        // and `Attention::attend` demand it.
        unsafe {
            place.copy_from_nonoverlapping(values.as_ptr(), count);
        }
    }

    /// Row `row`, to be written in place.
    ///
    /// # Safety
    /// Nobody else may write or read that row as long as it is borrowed.
    #[allow(unsafe_code, clippy::mut_from_ref)]
    pub(in super::super) unsafe fn row(&self, row: usize) -> &mut [f32] {
        // SAFETY: all of the row lies within, and is the caller's alone.
        unsafe { std::slice::from_raw_parts_mut(self.place(row, 0), self.columns) }
    }

    /// Where the value of a row and a column is.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(super) fn place(&self, row: usize, column: usize) -> *mut f32 {
        assert!(row < self.rows && column < self.columns);
        // SAFETY: row and column lie within.
        unsafe { self.start.add(row * self.columns + column) }
    }
}

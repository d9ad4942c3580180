// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where results go.
//!
//! Several threads write one output at the same time, each its own part of it. That no two of them write the same values is
//! the one thing that the compiler cannot see. So there is one contract, that of who cuts an [`Output`] into parts: no two
//! parts that live at the same time have a value in common. [`ColumnsMut`], [`PackedLhsMut`] and slices are such parts; they are
//! written through `&mut` and check their bounds, so whatever computes what is written (products, attention, convolutions) is
//! safe and promises nothing.

#![allow(unsafe_code)]

use std::{marker::PhantomData, ops::Range};

use super::PackedLhsMut;

/// Either of two ways to lay down rows.
#[derive(Debug)]
pub enum Target<'a> {
    /// One row behind the other.
    RowMajor(ColumnsMut<'a>),
    /// As products with [integers](super::i24) read them.
    Packed(PackedLhsMut<'a>),
}

/// Rows of the same width that threads share to write parts of them.
#[derive(Debug)]
pub struct Output<'a> {
    start: *mut f32,
    rows: usize,
    width: usize,
    values: PhantomData<&'a mut [f32]>,
}

// SAFETY: it only says where the values are. Parts of it are made by who promises that nobody else has the same.
unsafe impl Sync for Output<'_> {}

impl<'a> Output<'a> {
    /// Rows of `width` values each.
    pub fn new(values: &'a mut [f32], width: usize) -> Self {
        // SAFETY: they are borrowed for as long as this lives.
        unsafe { Self::at(values.as_mut_ptr(), values.len(), width) }
    }

    /// `count` values from `start` on, as rows of `width` values each.
    ///
    /// # Safety
    /// They must be there for as long as this lives. All outputs of the same values count as one for those who make parts.
    pub(in super::super) unsafe fn at(start: *mut f32, count: usize, width: usize) -> Self {
        Self {
            start,
            rows: count / width.max(1),
            width,
            values: PhantomData,
        }
    }

    /// These columns of all rows.
    ///
    /// # Panics
    /// If there are no such columns.
    ///
    /// # Safety
    /// As long as the part lives, nobody else may read or write what is in it, and no other part may have a value of it.
    pub unsafe fn columns(&self, columns: Range<usize>) -> ColumnsMut<'a> {
        assert!(columns.start <= columns.end && columns.end <= self.width);
        ColumnsMut {
            start: self.start,
            rows: self.rows,
            width: self.width,
            columns,
            values: PhantomData,
        }
    }

    /// These columns of all rows, which are [packed](super::PackedLhs).
    ///
    /// # Panics
    /// If there are no such columns.
    ///
    /// # Safety
    /// As for [`columns`](Self::columns); all parts of the output must be turned.
    pub(crate) unsafe fn packed(&self, columns: Range<usize>) -> PackedLhsMut<'a> {
        // SAFETY: so many values are there, and the caller's promise.
        unsafe { PackedLhsMut::at(self.start, (self.rows, self.width), columns) }
    }

    /// These values of one row.
    ///
    /// # Panics
    /// If there is no such row, or it has no such values.
    ///
    /// # Safety
    /// As for [`columns`](Self::columns).
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn part(&self, row: usize, columns: Range<usize>) -> &'a mut [f32] {
        assert!(row < self.rows && columns.start <= columns.end && columns.end <= self.width);
        // SAFETY: all of it lies within the row, and the caller's promise.
        unsafe {
            let start = self.start.add(row * self.width + columns.start);
            std::slice::from_raw_parts_mut(start, columns.len())
        }
    }

    /// All of a row.
    ///
    /// # Panics
    /// If there is no such row.
    ///
    /// # Safety
    /// As for [`columns`](Self::columns).
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn row(&self, row: usize) -> &'a mut [f32] {
        // SAFETY: the caller's promise.
        unsafe { self.part(row, 0..self.width) }
    }
}

/// Some columns of all rows of an output, which are its own. Columns have the numbers that they have in the output.
#[derive(Debug)]
pub struct ColumnsMut<'a> {
    start: *mut f32,
    rows: usize,
    width: usize,
    columns: Range<usize>,
    values: PhantomData<&'a mut [f32]>,
}

impl<'a> ColumnsMut<'a> {
    /// All columns of rows of `width` values each.
    pub fn all(values: &'a mut [f32], width: usize) -> Self {
        Self {
            start: values.as_mut_ptr(),
            rows: values.len() / width.max(1),
            width,
            columns: 0..width,
            values: PhantomData,
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Values of a row of the output.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Row `row` from column `column` on, as far as these columns go.
    ///
    /// # Panics
    /// If there is no such row, or the column is none of these.
    #[inline(always)]
    pub(super) fn row_from(&mut self, row: usize, column: usize) -> &mut [f32] {
        assert!(row < self.rows && self.columns.contains(&column));
        // SAFETY: row and columns lie within the output, and nobody else has these columns.
        unsafe {
            let start = self.start.add(row * self.width + column);
            std::slice::from_raw_parts_mut(start, self.columns.end - column)
        }
    }

    /// Writes the first of `values` to row `row` from column `column` on, as far as these columns go.
    ///
    /// # Panics
    /// As [`row_from`](Self::row_from).
    #[inline(always)]
    pub(in super::super) fn put(&mut self, row: usize, column: usize, values: &[f32]) {
        let dst = self.row_from(row, column);
        let count = values.len().min(dst.len());
        dst[..count].copy_from_slice(&values[..count]);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn panics(work: impl FnOnce()) -> bool {
        catch_unwind(AssertUnwindSafe(work)).is_err()
    }

    #[test]
    fn parts_write_their_own_columns_only() {
        let mut values = [0.0; 3 * 10];
        let output = Output::new(&mut values, 10);
        std::thread::scope(|scope| {
            for (first, number) in [(0, 1.0), (4, 2.0), (8, 3.0)] {
                let output = &output;
                scope.spawn(move || {
                    // SAFETY: they have no columns in common.
                    let mut columns = unsafe { output.columns(first..10.min(first + 4)) };
                    (0..3).for_each(|row| columns.put(row, first, &[number; 9]));
                });
            }
        });
        let row = [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 3.0, 3.0];
        assert_eq!(values, [row; 3].concat()[..]);
    }

    #[test]
    fn what_is_not_in_a_part_is_refused() {
        let mut values = [0.0; 3 * 10];
        let output = Output::new(&mut values, 10);
        for wrong in [8..11, 11..11] {
            // SAFETY: there are no others.
            assert!(panics(|| _ = unsafe { output.columns(wrong.clone()) }));
            // SAFETY: as above.
            assert!(panics(|| _ = unsafe { output.packed(wrong.clone()) }));
            // SAFETY: as above.
            assert!(panics(|| unsafe { output.part(0, wrong.clone()) }.fill(1.0)));
        }
        // SAFETY: as above.
        assert!(panics(|| unsafe { output.row(3) }.fill(1.0)));
        // SAFETY: as above.
        let mut columns = unsafe { output.columns(2..6) };
        for (row, column) in [(3, 2), (0, 1), (0, 6), (0, 10)] {
            assert!(panics(|| columns.put(row, column, &[1.0])), "{row}, {column}");
        }
        assert_eq!(values, [0.0; 30]);
    }
}

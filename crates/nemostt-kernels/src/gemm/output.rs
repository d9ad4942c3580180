// SPDX-License-Identifier: MIT OR Apache-2.0

//! Shared access to outputs.
//!
//! Several threads write disjoint parts of one output at the same time, which the compiler cannot check. There is a
//! single contract, for the code that divides an [`Output`] into parts: parts that exist at the same time must not
//! overlap. Parts ([`ColumnsMut`] and [`PackedLhsMut`]) are written through `&mut` and check their bounds, so that the code
//! that computes the values (GEMMs, attention, convolutions) is safe.

#![allow(unsafe_code)]

use std::{marker::PhantomData, ops::Range};

use super::PackedLhsMut;

/// An output in one of two layouts.
#[derive(Debug)]
pub enum Target<'a> {
    /// Row-major.
    RowMajor(ColumnsMut<'a>),
    /// Packed for the [`i24`](super::i24) micro-kernel.
    Packed(PackedLhsMut<'a>),
}

/// An output \[rows, width\] that threads share to write disjoint parts of it.
#[derive(Debug)]
pub(crate) struct Output<'a> {
    start: *mut f32,
    rows: usize,
    width: usize,
    values: PhantomData<&'a mut [f32]>,
}

// SAFETY: it only stores where the values are. Creating parts is unsafe, and callers guarantee that they do not
// overlap.
unsafe impl Sync for Output<'_> {}

impl<'a> Output<'a> {
    /// An output of rows of `width` values.
    #[cfg(test)]
    pub(crate) fn new(values: &'a mut [f32], width: usize) -> Self {
        // SAFETY: `values` is mutably borrowed for the lifetime of the output.
        unsafe { Self::at(values.as_mut_ptr(), values.len(), width) }
    }

    /// An output of `count` values at `start`, in rows of `width` values.
    ///
    /// # Safety
    /// The values must be valid for the lifetime of the output. Parts of different outputs with the same values must
    /// not overlap either.
    pub(crate) unsafe fn at(start: *mut f32, count: usize, width: usize) -> Self {
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
    /// If the columns are out of range.
    ///
    /// # Safety
    /// While the part exists, its values must not be accessed in any other way.
    pub(crate) unsafe fn columns(&self, columns: Range<usize>) -> ColumnsMut<'a> {
        assert!(columns.start <= columns.end && columns.end <= self.width);
        ColumnsMut {
            start: self.start,
            rows: self.rows,
            width: self.width,
            columns,
            values: PhantomData,
        }
    }

    /// These columns of these rows, in [packed](super::PackedLhs) layout.
    ///
    /// # Panics
    /// If the rows or columns are out of range.
    ///
    /// # Safety
    /// As for [`columns`](Self::columns); all parts of an output must have the same layout.
    pub(crate) unsafe fn packed(&self, rows: Range<usize>, columns: Range<usize>) -> PackedLhsMut<'a> {
        // SAFETY: the output has this size; the rest is the caller's guarantee.
        unsafe { PackedLhsMut::at(self.start, (self.rows, self.width), rows, columns) }
    }
}

/// Some columns of all rows of an output, with exclusive access. Columns are numbered as in the output.
#[derive(Debug)]
pub struct ColumnsMut<'a> {
    start: *mut f32,
    rows: usize,
    width: usize,
    columns: Range<usize>,
    values: PhantomData<&'a mut [f32]>,
}

impl<'a> ColumnsMut<'a> {
    /// All columns of rows of `width` values.
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

    /// Values per row of the output.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Row `row` from column `column` to the last of these columns.
    ///
    /// # Panics
    /// If the row is out of range, or the column is not one of these.
    #[inline(always)]
    pub(crate) fn row_from(&mut self, row: usize, column: usize) -> &mut [f32] {
        assert!(row < self.rows && self.columns.contains(&column));
        // SAFETY: row and columns are within the output, and these columns are exclusive.
        unsafe {
            let start = self.start.add(row * self.width + column);
            std::slice::from_raw_parts_mut(start, self.columns.end - column)
        }
    }

    /// Writes `values` to row `row` from column `column` on; values beyond the last of these columns are ignored.
    ///
    /// # Panics
    /// As [`row_from`](Self::row_from).
    #[inline(always)]
    pub(crate) fn put(&mut self, row: usize, column: usize, values: &[f32]) {
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
    fn parts_write_only_their_columns() {
        let mut values = [0.0; 3 * 10];
        let output = Output::new(&mut values, 10);
        std::thread::scope(|scope| {
            for (first, number) in [(0, 1.0), (4, 2.0), (8, 3.0)] {
                let output = &output;
                scope.spawn(move || {
                    // SAFETY: the columns do not overlap.
                    let mut columns = unsafe { output.columns(first..10.min(first + 4)) };
                    (0..3).for_each(|row| columns.put(row, first, &[number; 9]));
                });
            }
        });
        let row = [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 3.0, 3.0];
        assert_eq!(values, [row; 3].concat()[..]);
    }

    #[test]
    fn out_of_range_access_panics() {
        let mut values = [0.0; 3 * 10];
        let output = Output::new(&mut values, 10);
        for range in [8..11, 11..11] {
            // SAFETY: there are no other parts.
            assert!(panics(|| _ = unsafe { output.columns(range.clone()) }));
            // SAFETY: as above.
            assert!(panics(|| _ = unsafe { output.packed(0..3, range.clone()) }));
        }
        // SAFETY: as above.
        let mut columns = unsafe { output.columns(2..6) };
        for (row, column) in [(3, 2), (0, 1), (0, 6), (0, 10)] {
            assert!(panics(|| columns.put(row, column, &[1.0])), "{row}, {column}");
        }
        assert_eq!(values, [0.0; 30]);
    }
}

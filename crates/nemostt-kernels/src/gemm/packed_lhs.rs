// SPDX-License-Identifier: MIT OR Apache-2.0

//! Left-hand sides in the order in which the [`i24`](super::i24) micro-kernel reads them: groups of rows, each
//! transposed.

use std::{marker::PhantomData, ops::Range};

use super::i24;

/// Maximum rows of a micro-tile.
pub(super) const MAX_ROWS: usize = 14;

/// Rows per group: at most [`MAX_ROWS`], in groups of nearly equal size.
fn group_size(rows: usize) -> usize {
    rows.div_ceil(rows.div_ceil(MAX_ROWS).max(1)).max(1)
}

/// The rows of each group.
pub(crate) fn row_groups(rows: usize) -> impl Iterator<Item = Range<usize>> {
    let group_size = group_size(rows);
    (0..rows)
        .step_by(group_size)
        .map(move |first| first..rows.min(first + group_size))
}

/// Rows \[rows, k\] in groups, each transposed: \[k, rows of the group\].
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // read by vectors of AVX-512 alone
pub struct PackedLhs<'a> {
    values: &'a [f32],
    rows: usize,
}

impl<'a> PackedLhs<'a> {
    /// The values that were written through a [`PackedLhsMut`] of `rows` rows.
    pub(crate) fn new(values: &'a [f32], rows: usize) -> Self {
        Self { values, rows }
    }

    /// Packs rows of `k` values. Allocates only if `dst` is too small.
    pub(super) fn pack(lhs: &[f32], k: usize, dst: &'a mut Vec<f32>) -> Self {
        let rows = lhs.len() / k;
        dst.resize(rows * k, 0.0);
        PackedLhsMut::all(dst, k).put_all(0, (lhs, k), k);
        Self::new(dst, rows)
    }

    pub(super) fn rows(self) -> usize {
        self.rows
    }

    /// One of the [`row_groups`].
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub(super) fn group(self, rows: Range<usize>, k: usize) -> &'a [f32] {
        &self.values[rows.start * k..rows.end * k]
    }
}

/// Some columns of all or some rows of a packed left-hand side, with exclusive access: see
/// [`Output::packed`](super::Output::packed). Rows are numbered from the first of these.
#[derive(Debug)]
pub struct PackedLhsMut<'a> {
    start: *mut f32,
    /// Rows of the whole left-hand side.
    all_rows: usize,
    k: usize,
    /// Maximum rows of a group.
    group_size: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    values: PhantomData<&'a mut [f32]>,
}

impl<'a> PackedLhsMut<'a> {
    /// All columns of rows of `k` values.
    pub(crate) fn all(values: &'a mut [f32], k: usize) -> Self {
        let rows = values.len() / k.max(1);
        // SAFETY: `values` is mutably borrowed for the lifetime of the result.
        #[allow(unsafe_code)]
        unsafe {
            Self::at(values.as_mut_ptr(), (rows, k), 0..rows, 0..k)
        }
    }

    /// These columns of these rows of \[all_rows, k\] values at `start`.
    ///
    /// # Panics
    /// If the rows or columns are out of range.
    ///
    /// # Safety
    /// The values must be valid for the lifetime of the result, and these columns of these rows must not be accessed in any
    /// other way meanwhile.
    #[allow(unsafe_code)]
    pub(super) unsafe fn at(
        start: *mut f32,
        (all_rows, k): (usize, usize),
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Self {
        assert!(rows.start <= rows.end && rows.end <= all_rows);
        assert!(columns.start <= columns.end && columns.end <= k);
        Self {
            start,
            all_rows,
            k,
            group_size: group_size(all_rows),
            rows,
            columns,
            values: PhantomData,
        }
    }

    /// Number of these rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn k(&self) -> usize {
        self.k
    }

    /// These columns.
    pub(crate) fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

    /// Writes columns of all these rows. `block` contains `count` values of each, from column `first` on, the rows `stride`
    /// values apart.
    ///
    /// # Panics
    /// If the columns are out of range, or `block` is too small.
    pub(crate) fn put_all(&mut self, first: usize, (block, stride): (&[f32], usize), count: usize) {
        let own = self.rows.clone();
        for (group, rows) in row_groups(self.all_rows).enumerate() {
            if rows.end <= own.start || own.end <= rows.start {
                continue;
            }
            match own.start <= rows.start && rows.end <= own.end {
                true => self.put(
                    group,
                    first,
                    (&block[(rows.start - own.start) * stride..], stride),
                    count,
                ),
                // Other rows of the group belong to another stream.
                false => {
                    for row in own.start.max(rows.start)..own.end.min(rows.end) {
                        self.put_row(&rows, row, first, &block[(row - own.start) * stride..][..count]);
                    }
                }
            }
        }
    }

    /// Writes `values` to row `row` of the group that consists of `rows`, from column `first` on.
    fn put_row(&mut self, rows: &Range<usize>, row: usize, first: usize, values: &[f32]) {
        assert!(self.rows.contains(&row) && rows.contains(&row));
        assert!(self.columns.start <= first && first <= self.columns.end);
        assert!(values.len() <= self.columns.end - first);
        for (column, value) in (first..).zip(values) {
            let index = rows.start * self.k + column * rows.len() + row - rows.start;
            // SAFETY: within the values of the group, whose columns are `rows.len()` values apart. The row and the column
            // are among those that are exclusive.
            #[allow(unsafe_code)]
            unsafe {
                *self.start.add(index) = *value;
            }
        }
    }

    /// Writes `count` columns, from `first` on, of group `group` of [`row_groups`], of which all rows must be among these.
    /// `block` contains the values of each row, the rows `stride` values apart.
    ///
    /// # Panics
    /// If the columns or the group are out of range, or `block` is too small.
    #[inline(always)]
    pub(super) fn put(&mut self, group: usize, first: usize, (block, stride): (&[f32], usize), count: usize) {
        let start = group.saturating_mul(self.group_size);
        let columns = &self.columns;
        assert!(start < self.all_rows && columns.start <= first && first <= columns.end);
        assert!(count <= columns.end - first);
        let height = self.group_size.min(self.all_rows - start);
        assert!(self.rows.start <= start && start + height <= self.rows.end);
        // SAFETY: the slice is within the values: after all previous groups, and after the preceding columns of the
        // same group. These columns are exclusive.
        #[allow(unsafe_code)]
        let dst = unsafe {
            let start = self.start.add(start * self.k + first * height);
            std::slice::from_raw_parts_mut(start, height * count)
        };
        if i24::is_supported() {
            i24::transpose(block, stride, (height, count), dst);
            return;
        }
        for (value, dst) in dst.chunks_exact_mut(height).enumerate() {
            for (row, slot) in dst.iter_mut().enumerate() {
                *slot = block[row * stride + value];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::{super::Output, *};

    #[test]
    fn lhs_is_transposed_in_row_groups() {
        for (rows, k) in [
            (1, 5),
            (2, 40),
            (3, 64),
            (14, 33),
            (15, 20),
            (19, 70),
            (40, 16),
            (14, 17),
        ] {
            let lhs: Vec<f32> = (0..rows * k).map(|index| index as f32).collect();
            let mut dst = Vec::new();
            check(PackedLhs::pack(&lhs, k, &mut dst), &lhs, k);
            // In blocks, the last one first; nothing else is written.
            let mut blocks = vec![f32::NAN; rows * k];
            let mut output = PackedLhsMut::all(&mut blocks, k);
            for first in (0..k).step_by(7).rev() {
                output.put_all(first, (&lhs[first..], k), 7.min(k - first));
            }
            check(PackedLhs::new(&blocks, rows), &lhs, k);
        }
    }

    #[test]
    fn rows_of_several_streams_are_packed_together() {
        for (streams, frames, k) in [
            (1, 3, 8),
            (7, 2, 33),
            (14, 2, 40),
            (2, 14, 16),
            (3, 7, 5),
            (28, 1, 12),
            (5, 6, 9),
        ] {
            let lhs: Vec<f32> = (0..streams * frames * k).map(|index| index as f32).collect();
            let mut dst = vec![f32::NAN; lhs.len()];
            let output = Output::new(&mut dst, k);
            for stream in (0..streams).rev() {
                let rows = stream * frames..(stream + 1) * frames;
                for columns in [0..k / 2, k / 2..k] {
                    let block = &lhs[rows.start * k + columns.start..];
                    // SAFETY: rows of different streams, and both halves of the columns, are disjoint.
                    #[allow(unsafe_code)]
                    let mut part = unsafe { output.packed(rows.clone(), columns.clone()) };
                    assert_eq!(part.rows(), frames);
                    part.put_all(columns.start, (block, k), columns.len());
                }
            }
            check(PackedLhs::new(&dst, streams * frames), &lhs, k);
        }
    }

    #[test]
    fn rows_of_others_are_not_written() {
        let (rows, k) = (16, 4);
        let (lhs, mut dst) = (vec![1.0; rows * k], vec![0.0; rows * k]);
        let output = Output::new(&mut dst, k);
        // SAFETY: there is no other access to the output.
        #[allow(unsafe_code)]
        let mut part = unsafe { output.packed(3..9, 0..k) };
        // Two groups of eight rows, neither of which is its own.
        for group in [0, 1] {
            let put = AssertUnwindSafe(|| part.put(group, 0, (&lhs, k), k));
            assert!(catch_unwind(put).is_err(), "{group}");
        }
        part.put_all(1, (&lhs, k), 2);
        assert_eq!(dst.iter().sum::<f32>(), 12.0);
    }

    #[test]
    fn out_of_range_put_panics() {
        let (rows, k) = (15, 20);
        let (lhs, mut dst) = (vec![1.0; rows * k], vec![0.0; rows * k]);
        let output = Output::new(&mut dst, k);
        // SAFETY: there is no other access to the output.
        #[allow(unsafe_code)]
        let mut columns = unsafe { output.packed(0..rows, 4..12) };
        for (group, first, count) in [
            (0, 3, 2),
            (0, 10, 3),
            (2, 4, 1),
            (0, 20, 1),
            (0, 5, usize::MAX - 3),
            (usize::MAX / 8 + 2, 5, 1),
        ] {
            let put = AssertUnwindSafe(|| columns.put(group, first, (&lhs, k), count));
            assert!(catch_unwind(put).is_err(), "{group}, {first}, {count}");
        }
        assert!(dst.iter().all(|&value| value == 0.0));
    }

    fn check(packed: PackedLhs<'_>, lhs: &[f32], k: usize) {
        let mut seen = 0;
        for group in row_groups(packed.rows()) {
            assert!(group.start == seen && group.len() <= MAX_ROWS);
            seen = group.end;
            let values = packed.group(group.clone(), k);
            for (i, row) in (0..k).flat_map(|i| group.clone().map(move |row| (i, row))) {
                let got = values[i * group.len() + row - group.start];
                assert_eq!(got, lhs[row * k + i], "{} rows of {k}: {row}, {i}", packed.rows());
            }
        }
        assert_eq!(seen * k, lhs.len());
    }
}

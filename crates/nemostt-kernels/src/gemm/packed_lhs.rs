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
pub(super) fn row_groups(rows: usize) -> impl Iterator<Item = Range<usize>> {
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

/// Some columns of all rows of a packed left-hand side, with exclusive access: see
/// [`Output::packed`](super::Output::packed).
#[derive(Debug)]
pub struct PackedLhsMut<'a> {
    start: *mut f32,
    rows: usize,
    k: usize,
    /// Maximum rows of a group.
    group_size: usize,
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
            Self::at(values.as_mut_ptr(), (rows, k), 0..k)
        }
    }

    /// These columns of \[rows, k\] values at `start`.
    ///
    /// # Panics
    /// If the columns are out of range.
    ///
    /// # Safety
    /// The values must be valid for the lifetime of the result, and these columns must not be accessed in any other way
    /// meanwhile.
    #[allow(unsafe_code)]
    pub(super) unsafe fn at(start: *mut f32, (rows, k): (usize, usize), columns: Range<usize>) -> Self {
        assert!(columns.start <= columns.end && columns.end <= k);
        Self {
            start,
            rows,
            k,
            group_size: group_size(rows),
            columns,
            values: PhantomData,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn k(&self) -> usize {
        self.k
    }

    /// Writes columns of all rows; see [`put`](Self::put).
    pub(crate) fn put_all(&mut self, first: usize, (block, stride): (&[f32], usize), count: usize) {
        for (group, rows) in row_groups(self.rows).enumerate() {
            self.put(group, first, (&block[rows.start * stride..], stride), count);
        }
    }

    /// Writes `count` columns, from `first` on, of group `group` of [`row_groups`]. `block` contains the values of each
    /// row, the rows `stride` values apart.
    ///
    /// # Panics
    /// If the columns or the group are out of range, or `block` is too small.
    #[inline(always)]
    pub(super) fn put(&mut self, group: usize, first: usize, (block, stride): (&[f32], usize), count: usize) {
        let start = group.saturating_mul(self.group_size);
        let columns = &self.columns;
        assert!(start < self.rows && columns.start <= first && first <= columns.end);
        assert!(count <= columns.end - first);
        let height = self.group_size.min(self.rows - start);
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
    fn out_of_range_put_panics() {
        let (rows, k) = (15, 20);
        let (lhs, mut dst) = (vec![1.0; rows * k], vec![0.0; rows * k]);
        let output = Output::new(&mut dst, k);
        // SAFETY: there is no other access to the output.
        #[allow(unsafe_code)]
        let mut columns = unsafe { output.packed(4..12) };
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

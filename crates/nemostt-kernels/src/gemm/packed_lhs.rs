// SPDX-License-Identifier: MIT OR Apache-2.0

//! Rows as products with [integers](super::i24) read them: value by value, for all rows side by side.

use std::{marker::PhantomData, ops::Range};

use super::i24;

/// The most rows that one pass of a product serves.
pub(super) const MAX_ROWS: usize = 14;

/// How many rows are served together: no more than a pass can serve, in equal shares.
fn share(rows: usize) -> usize {
    rows.div_ceil(rows.div_ceil(MAX_ROWS).max(1)).max(1)
}

/// Rows that are served together.
pub(super) fn row_groups(rows: usize) -> impl Iterator<Item = Range<usize>> {
    let share = share(rows);
    (0..rows)
        .step_by(share)
        .map(move |first| first..rows.min(first + share))
}

/// Rows in groups, each value by value and then row by row.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // read by vectors of AVX-512 alone
pub struct PackedLhs<'a> {
    values: &'a [f32],
    rows: usize,
}

impl<'a> PackedLhs<'a> {
    /// What was written to [`PackedLhsMut`] of `rows` rows.
    pub(crate) fn new(values: &'a [f32], rows: usize) -> Self {
        Self { values, rows }
    }

    /// Turns rows of `depth` values. Nothing is allocated if there were as many in `dst` before.
    pub(super) fn pack(lhs: &[f32], depth: usize, dst: &'a mut Vec<f32>) -> Self {
        let rows = lhs.len() / depth;
        dst.resize(rows * depth, 0.0);
        PackedLhsMut::all(dst, depth).put_all(0, (lhs, depth), depth);
        Self::new(dst, rows)
    }

    pub(super) fn rows(self) -> usize {
        self.rows
    }

    /// One of the [`row_groups`].
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub(super) fn group(self, rows: Range<usize>, depth: usize) -> &'a [f32] {
        &self.values[rows.start * depth..rows.end * depth]
    }
}

/// Some columns of all rows that are laid down so, which are its own: see [`Output::packed`](super::Output::packed).
#[derive(Debug)]
pub struct PackedLhsMut<'a> {
    start: *mut f32,
    rows: usize,
    k: usize,
    /// Rows of a group.
    share: usize,
    columns: Range<usize>,
    values: PhantomData<&'a mut [f32]>,
}

impl<'a> PackedLhsMut<'a> {
    /// All columns of rows of `depth` values each.
    pub(crate) fn all(values: &'a mut [f32], depth: usize) -> Self {
        let rows = values.len() / depth.max(1);
        // SAFETY: they are borrowed as long as this lives.
        #[allow(unsafe_code)]
        unsafe {
            Self::at(values.as_mut_ptr(), (rows, depth), 0..depth)
        }
    }

    /// These columns of `rows` rows of `depth` values each, of which the first begins at `start`.
    ///
    /// # Panics
    /// If there are no such columns.
    ///
    /// # Safety
    /// The rows must be there, and nobody else may read or write these columns, as long as this lives.
    #[allow(unsafe_code)]
    pub(super) unsafe fn at(start: *mut f32, (rows, depth): (usize, usize), columns: Range<usize>) -> Self {
        assert!(columns.start <= columns.end && columns.end <= depth);
        Self {
            start,
            rows,
            k: depth,
            share: share(rows),
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

    /// Writes columns of all rows, as [`put`](Self::put) does.
    pub(crate) fn put_all(&mut self, first: usize, (block, stride): (&[f32], usize), count: usize) {
        for (group, rows) in row_groups(self.rows).enumerate() {
            self.put(group, first, (&block[rows.start * stride..], stride), count);
        }
    }

    /// Writes `count` columns from `first` on of one of the [`row_groups`] of rows. `block` has the values of each row, from
    /// multiples of its stride on.
    ///
    /// # Panics
    /// If these are not its columns, there is no such group, or `block` is too small.
    #[inline(always)]
    pub(super) fn put(&mut self, group: usize, first: usize, (block, stride): (&[f32], usize), count: usize) {
        let start = group.saturating_mul(self.share);
        let columns = &self.columns;
        assert!(start < self.rows && columns.start <= first && first <= columns.end);
        assert!(count <= columns.end - first);
        let together = self.share.min(self.rows - start);
        // SAFETY: that lies within: behind all groups before it, and behind the columns before these of the same group. Nobody
        // else has these columns.
        #[allow(unsafe_code)]
        let dst = unsafe {
            let start = self.start.add(start * self.k + first * together);
            std::slice::from_raw_parts_mut(start, together * count)
        };
        if i24::is_supported() {
            i24::transpose(block, stride, (together, count), dst);
            return;
        }
        for (value, dst) in dst.chunks_exact_mut(together).enumerate() {
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
        for (rows, depth) in [
            (1, 5),
            (2, 40),
            (3, 64),
            (14, 33),
            (15, 20),
            (19, 70),
            (40, 16),
            (14, 17),
        ] {
            let lhs: Vec<f32> = (0..rows * depth).map(|index| index as f32).collect();
            let mut dst = Vec::new();
            check(PackedLhs::pack(&lhs, depth, &mut dst), &lhs, depth);
            // In parts, the last of them first, and nothing beside them is written.
            let mut parts = vec![f32::NAN; rows * depth];
            let mut output = PackedLhsMut::all(&mut parts, depth);
            for first in (0..depth).step_by(7).rev() {
                output.put_all(first, (&lhs[first..], depth), 7.min(depth - first));
            }
            check(PackedLhs::new(&parts, rows), &lhs, depth);
        }
    }

    #[test]
    fn what_is_not_in_a_part_is_refused() {
        let (rows, depth) = (15, 20);
        let (lhs, mut dst) = (vec![1.0; rows * depth], vec![0.0; rows * depth]);
        let output = Output::new(&mut dst, depth);
        // SAFETY: nobody else has the output.
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
            let put = AssertUnwindSafe(|| columns.put(group, first, (&lhs, depth), count));
            assert!(catch_unwind(put).is_err(), "{group}, {first}, {count}");
        }
        assert!(dst.iter().all(|&value| value == 0.0));
    }

    fn check(turned: PackedLhs<'_>, lhs: &[f32], depth: usize) {
        let mut seen = 0;
        for group in row_groups(turned.rows()) {
            assert!(group.start == seen && group.len() <= MAX_ROWS);
            seen = group.end;
            let values = turned.group(group.clone(), depth);
            for (k, row) in (0..depth).flat_map(|k| group.clone().map(move |row| (k, row))) {
                let got = values[k * group.len() + row - group.start];
                assert_eq!(
                    got,
                    lhs[row * depth + k],
                    "{} rows of {depth}: {row}, {k}",
                    turned.rows()
                );
            }
        }
        assert_eq!(seen * depth, lhs.len());
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Rows as products with [integers](super::integers) read them: value by value, for all rows side by side.

use std::{marker::PhantomData, ops::Range};

use super::integers;

/// The most rows that one pass of a product serves.
pub(super) const MOST_ROWS: usize = 14;

/// Rows that are served together: no more than a pass can serve, in equal shares.
pub(super) fn groups(rows: usize) -> impl Iterator<Item = Range<usize>> {
    let share = rows.div_ceil(rows.div_ceil(MOST_ROWS).max(1)).max(1);
    (0..rows)
        .step_by(share)
        .map(move |first| first..rows.min(first + share))
}

/// Rows in groups, each value by value and then row by row.
#[derive(Debug, Clone, Copy)]
pub struct Turned<'a> {
    values: &'a [f32],
    rows: usize,
}

impl<'a> Turned<'a> {
    /// What was written to a [`TurnedOutput`] of `rows` rows.
    pub(crate) fn new(values: &'a [f32], rows: usize) -> Self {
        Self { values, rows }
    }

    /// Turns rows of `depth` values. Nothing is allocated if there were as many in `room` before.
    pub(super) fn take(input: &[f32], depth: usize, room: &'a mut Vec<f32>) -> Self {
        let rows = input.len() / depth;
        room.resize(rows * depth, 0.0);
        TurnedOutput::new(room, depth).put_all(0, (input, depth), depth);
        Self::new(room, rows)
    }

    pub(super) fn rows(self) -> usize {
        self.rows
    }

    /// One of the [`groups`].
    pub(super) fn group(self, rows: Range<usize>, depth: usize) -> &'a [f32] {
        &self.values[rows.start * depth..rows.end * depth]
    }
}

/// Where rows are laid down so. Several threads write different columns.
#[derive(Debug)]
pub struct TurnedOutput<'a> {
    start: *mut f32,
    rows: usize,
    depth: usize,
    values: PhantomData<&'a mut [f32]>,
}

// SAFETY: threads share it only to write to different places: see `TurnedOutput::put`.
#[allow(unsafe_code)]
unsafe impl Sync for TurnedOutput<'_> {}

impl<'a> TurnedOutput<'a> {
    /// Rows of `depth` values each.
    pub(in super::super) fn new(values: &'a mut [f32], depth: usize) -> Self {
        let count = values.len();
        // SAFETY: they are borrowed as long as this lives.
        #[allow(unsafe_code)]
        unsafe {
            Self::at(values.as_mut_ptr(), count, depth)
        }
    }

    /// `count` values from `start` on, as rows of `depth` values each.
    ///
    /// # Safety
    /// They must be there for as long as this lives, and nobody may read or write what is being written.
    #[allow(unsafe_code)]
    pub(in super::super) unsafe fn at(start: *mut f32, count: usize, depth: usize) -> Self {
        Self {
            start,
            rows: count / depth.max(1),
            depth,
            values: PhantomData,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Writes columns of all rows, as [`put`](Self::put) does.
    pub(crate) fn put_all(&self, first: usize, (block, stride): (&[f32], usize), count: usize) {
        for rows in groups(self.rows) {
            self.put(rows.clone(), first, (&block[rows.start * stride..], stride), count);
        }
    }

    /// Writes `count` columns from `first` on of one of the [`groups`] of rows. `block` has the values of each row, from
    /// multiples of its stride on. Whoever calls it sees to it that no other thread writes the same columns.
    ///
    /// # Panics
    /// If there are no such columns, `block` is too small, or `rows` are no group.
    #[inline(always)]
    pub(super) fn put(&self, rows: Range<usize>, first: usize, (block, stride): (&[f32], usize), count: usize) {
        let together = rows.len();
        assert!(first + count <= self.depth && rows.end <= self.rows && together <= MOST_ROWS);
        // SAFETY: that lies within: the columns before these of the same group, and all groups before it.
        #[allow(unsafe_code)]
        let room = unsafe {
            let start = self.start.add(rows.start * self.depth + first * together);
            std::slice::from_raw_parts_mut(start, together * count)
        };
        if integers::is_there() {
            integers::turn(block, stride, (together, count), room);
            return;
        }
        for (value, room) in room.chunks_exact_mut(together).enumerate() {
            for (row, slot) in room.iter_mut().enumerate() {
                *slot = block[row * stride + value];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_turned_in_groups() {
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
            let input: Vec<f32> = (0..rows * depth).map(|index| index as f32).collect();
            let mut room = Vec::new();
            check(Turned::take(&input, depth, &mut room), &input, depth);
            // In parts, the last of them first, and nothing beside them is written.
            let mut parts = vec![f32::NAN; rows * depth];
            let output = TurnedOutput::new(&mut parts, depth);
            for first in (0..depth).step_by(7).rev() {
                output.put_all(first, (&input[first..], depth), 7.min(depth - first));
            }
            check(Turned::new(&parts, rows), &input, depth);
        }
    }

    fn check(turned: Turned<'_>, input: &[f32], depth: usize) {
        let mut seen = 0;
        for group in groups(turned.rows()) {
            assert!(group.start == seen && group.len() <= MOST_ROWS);
            seen = group.end;
            let values = turned.group(group.clone(), depth);
            for (k, row) in (0..depth).flat_map(|k| group.clone().map(move |row| (k, row))) {
                let got = values[k * group.len() + row - group.start];
                assert_eq!(
                    got,
                    input[row * depth + k],
                    "{} rows of {depth}: {row}, {k}",
                    turned.rows()
                );
            }
        }
        assert_eq!(seen * depth, input.len());
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tables of numbers, row by row.

/// Rows and columns of what is turned at a time, in registers.
pub(super) const SQUARE: usize = 4;

/// What is read: rows some values apart, of which the last one may end sooner.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table<'a> {
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
    pub(super) count: usize,
}

impl<'a> Table<'a> {
    /// What each row has from a column on.
    #[inline(always)]
    pub(super) fn rows_from(self, column: usize) -> impl Iterator<Item = &'a [f32]> {
        let values = self.values.get(column..).unwrap_or_default();
        values.chunks(self.stride.max(1)).take(self.count)
    }
}

/// What is written: rows of some length.
#[derive(Debug)]
pub(super) struct Room<'a> {
    pub(super) values: &'a mut [f32],
    pub(super) length: usize,
}

impl Room<'_> {
    #[inline(always)]
    pub(super) fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.length..][..self.length]
    }

    #[inline(always)]
    pub(super) fn rows_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        self.values.chunks_exact_mut(self.length)
    }

    pub(super) fn as_table(&self, count: usize) -> Table<'_> {
        Table {
            values: self.values,
            stride: self.length,
            count,
        }
    }

    /// Writes columns as rows of `to`, as many as that has. Lengths and numbers of rows are multiples of [`SQUARE`].
    #[inline(always)]
    pub(super) fn turn(&self, to: &mut Room<'_>) {
        let length = to.length;
        for (place, to) in to.values.chunks_exact_mut(SQUARE * length).enumerate() {
            let mut rows = to.chunks_exact_mut(length).map(|row| row.as_chunks_mut().0);
            let [a, b, c, d]: [&mut [[f32; SQUARE]]; SQUARE] = std::array::from_fn(|_| rows.next().unwrap_or_default());
            let to = a.iter_mut().zip(b).zip(c).zip(d);
            for (from, (((a, b), c), d)) in self.values.chunks_exact(SQUARE * self.length).zip(to) {
                let square: [[f32; SQUARE]; SQUARE] =
                    std::array::from_fn(|row| from[row * self.length..][..self.length].as_chunks().0[place]);
                [*a, *b, *c, *d] = std::array::from_fn(|column| square.map(|row| row[column]));
            }
        }
    }
}

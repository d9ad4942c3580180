// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tables of numbers, row by row.

/// Rows and columns of what is turned at a time, in registers.
pub(super) const TRANSPOSE_TILE: usize = 4;

/// What is read: rows some values apart, of which the last one may end sooner.
#[derive(Debug, Clone, Copy)]
pub(super) struct StridedView<'a> {
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
    pub(super) count: usize,
}

impl<'a> StridedView<'a> {
    /// What each row has from a column on.
    #[inline(always)]
    pub(super) fn rows_from(self, column: usize) -> impl Iterator<Item = &'a [f32]> {
        let values = self.values.get(column..).unwrap_or_default();
        values.chunks(self.stride.max(1)).take(self.count)
    }
}

/// What is written: rows of some length.
#[derive(Debug)]
pub(super) struct MatrixMut<'a> {
    pub(super) values: &'a mut [f32],
    pub(super) row_stride: usize,
}

impl MatrixMut<'_> {
    #[inline(always)]
    pub(super) fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.row_stride..][..self.row_stride]
    }

    #[inline(always)]
    pub(super) fn rows_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        self.values.chunks_exact_mut(self.row_stride)
    }

    pub(super) fn as_view(&self, count: usize) -> StridedView<'_> {
        StridedView {
            values: self.values,
            stride: self.row_stride,
            count,
        }
    }

    /// Writes columns as rows of `to`, as many as that has. Lengths and numbers of rows are multiples of [`TRANSPOSE_TILE`].
    #[inline(always)]
    pub(super) fn transpose_into(&self, to: &mut MatrixMut<'_>) {
        let row_stride = to.row_stride;
        for (place, to) in to.values.chunks_exact_mut(TRANSPOSE_TILE * row_stride).enumerate() {
            let mut rows = to.chunks_exact_mut(row_stride).map(|row| row.as_chunks_mut().0);
            let [a, b, c, d]: [&mut [[f32; TRANSPOSE_TILE]]; TRANSPOSE_TILE] =
                std::array::from_fn(|_| rows.next().unwrap_or_default());
            let to = a.iter_mut().zip(b).zip(c).zip(d);
            for (from, (((a, b), c), d)) in self.values.chunks_exact(TRANSPOSE_TILE * self.row_stride).zip(to) {
                let square: [[f32; TRANSPOSE_TILE]; TRANSPOSE_TILE] =
                    std::array::from_fn(|row| from[row * self.row_stride..][..self.row_stride].as_chunks().0[place]);
                [*a, *b, *c, *d] = std::array::from_fn(|column| square.map(|row| row[column]));
            }
        }
    }
}

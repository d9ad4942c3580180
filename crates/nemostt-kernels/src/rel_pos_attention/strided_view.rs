// SPDX-License-Identifier: MIT OR Apache-2.0

//! Matrices, row by row.

/// Rows and columns that are transposed at a time, in registers.
pub(super) const TRANSPOSE_TILE: usize = 4;

/// A matrix to read: rows `stride` values apart; the last one may be shorter.
#[derive(Debug, Clone, Copy)]
pub(super) struct StridedView<'a> {
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
    pub(super) count: usize,
}

impl<'a> StridedView<'a> {
    /// Each row, from a column on.
    #[inline(always)]
    pub(super) fn rows_from(self, column: usize) -> impl Iterator<Item = &'a [f32]> {
        let values = self.values.get(column..).unwrap_or_default();
        values.chunks(self.stride.max(1)).take(self.count)
    }
}

/// A matrix to write: contiguous rows.
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

    /// Writes the transpose to `dst`, as many rows as that has. All sizes are multiples of [`TRANSPOSE_TILE`].
    #[inline(always)]
    pub(super) fn transpose_into(&self, dst: &mut MatrixMut<'_>) {
        let row_stride = dst.row_stride;
        for (index, dst) in dst.values.chunks_exact_mut(TRANSPOSE_TILE * row_stride).enumerate() {
            let mut rows = dst.chunks_exact_mut(row_stride).map(|row| row.as_chunks_mut().0);
            let [a, b, c, d]: [&mut [[f32; TRANSPOSE_TILE]]; TRANSPOSE_TILE] =
                std::array::from_fn(|_| rows.next().unwrap_or_default());
            let dst = a.iter_mut().zip(b).zip(c).zip(d);
            for (src, (((a, b), c), d)) in self.values.chunks_exact(TRANSPOSE_TILE * self.row_stride).zip(dst) {
                let square: [[f32; TRANSPOSE_TILE]; TRANSPOSE_TILE] =
                    std::array::from_fn(|row| src[row * self.row_stride..][..self.row_stride].as_chunks().0[index]);
                [*a, *b, *c, *d] = std::array::from_fn(|column| square.map(|row| row[column]));
            }
        }
    }
}

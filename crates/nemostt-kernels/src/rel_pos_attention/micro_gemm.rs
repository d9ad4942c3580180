// SPDX-License-Identifier: MIT OR Apache-2.0

//! Small matrix products, which take nearly all of the time of attention. Accumulators of several rows and columns stay
//! in registers while the operands are read once for all of them.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::strided_view::{MatrixMut, StridedView};
use crate::prefetch::PrefetchStream;

/// `out = lhs · rhs` for the first `rows` rows and `columns` columns of `out`. The rows of `rhs` are those of all its
/// tables, concatenated; `lhs(i)` has one value for each. Prefetches `ahead` meanwhile.
#[inline(always)]
pub(super) fn multiply<'a, S: Simd>(
    simd: S,
    lhs: impl Fn(usize) -> &'a [f32],
    rhs: &[StridedView<'_>],
    out: &mut MatrixMut<'_>,
    (rows, columns): (usize, usize),
    mut ahead: PrefetchStream,
) {
    // Spread over all tiles.
    let part = ahead
        .lines()
        .div_ceil((rows / 8).max(1) * (columns / (2 * S::F32_LANES)).max(1));
    let mut first = 0;
    macro_rules! blocks {
        ($($rows:literal of $vectors:literal),*) => {
            // The accumulators, a row of `rhs` and a broadcast value must fit into registers.
            $(while rows - first >= $rows && ($rows + 1) * $vectors < S::REGISTER_COUNT || $rows == 1 && first < rows {
                let factors: [&[f32]; $rows] = std::array::from_fn(|row| lhs(first + row));
                let row_stride = out.row_stride;
                let out = &mut out.values[first * row_stride..][..$rows * row_stride];
                let mut column = 0;
                macro_rules! vectors {
                    ($count:literal) => {
                        while columns - column >= $count * S::F32_LANES {
                            ahead.advance(part);
                            let out = MatrixMut { values: &mut *out, row_stride };
                            simd.vectorize(MicroTile::<$rows, $count> { lhs: factors, rhs, column, out });
                            column += $count * S::F32_LANES;
                        }
                    };
                }
                if $vectors == 4 {
                    vectors!(4);
                }
                vectors!(2);
                vectors!(1);
                if column < columns {
                    edge_tile(&factors, rhs, column..columns, MatrixMut { values: out, row_stride });
                }
                first += $rows;
            })*
        };
    }
    // With fewer rows, more vectors: several accumulators per row hide the latency of FMA.
    blocks!(8 of 2, 6 of 2, 4 of 2, 2 of 4, 1 of 4);
}

/// Accumulators of some rows and vectors. They leave registers only at the end, so that the compiler does not spill
/// them.
struct MicroTile<'a, const ROWS: usize, const VECTORS: usize> {
    lhs: [&'a [f32]; ROWS],
    rhs: &'a [StridedView<'a>],
    column: usize,
    out: MatrixMut<'a>,
}

impl<const ROWS: usize, const VECTORS: usize> WithSimd for MicroTile<'_, ROWS, VECTORS> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let mut factors = self.lhs;
        let mut acc = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
        for table in self.rhs {
            let current = factors.map(|factors| &factors[..table.count]);
            factors = factors.map(|factors| &factors[table.count..]);
            for (k, row) in table.rows_from(self.column).enumerate() {
                let row = S::as_simd_f32s(&row[..VECTORS * S::F32_LANES]).0;
                for (acc, factors) in acc.iter_mut().zip(current) {
                    let factor = simd.splat_f32s(factors[k]);
                    for (acc, &vector) in acc.iter_mut().zip(row) {
                        *acc = simd.mul_add_f32s(factor, vector, *acc);
                    }
                }
            }
        }
        for (row, acc) in self.out.rows_mut().zip(acc) {
            S::as_mut_simd_f32s(&mut row[self.column..]).0[..VECTORS].copy_from_slice(&acc);
        }
    }
}

/// The remaining columns, which do not fill a vector.
#[inline(always)]
fn edge_tile(lhs: &[&[f32]], rhs: &[StridedView<'_>], columns: Range<usize>, mut out: MatrixMut<'_>) {
    for (out, factors) in out.rows_mut().zip(lhs) {
        let out = &mut out[columns.clone()];
        out.fill(0.0);
        let rows = rhs.iter().flat_map(|table| table.rows_from(columns.start));
        for (factor, row) in factors.iter().zip(rows) {
            for (out, value) in out.iter_mut().zip(row) {
                *out = factor.mul_add(*value, *out);
            }
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Products of tables: nearly all of what attention does. Sums of some rows and columns stay in registers while what they
//! are made of is read once for all of them.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::strided_view::{MatrixMut, StridedView};
use crate::prefetch::PrefetchStream;

/// `sums(i) = Σ_k factors(i)[k] · row(k)`, for the first `count` rows of `sums` and its first `columns` columns. Rows are
/// those of all `rhs`, one table behind the other, and `factors(i)` has a number for each. Meanwhile memory is asked for
/// what is `ahead`.
#[inline(always)]
pub(super) fn multiply<'a, S: Simd>(
    simd: S,
    factors: impl Fn(usize) -> &'a [f32],
    rhs: &[StridedView<'_>],
    sums: &mut MatrixMut<'_>,
    (count, columns): (usize, usize),
    mut ahead: PrefetchStream,
) {
    // In as many parts as there are blocks, or a few more.
    let part = ahead
        .lines()
        .div_ceil((count / 8).max(1) * (columns / (2 * S::F32_LANES)).max(1));
    let mut first = 0;
    macro_rules! blocks {
        ($($rows:literal of $vectors:literal),*) => {
            // Sums, as many vectors of a row and a factor must find room in registers.
            $(while count - first >= $rows && ($rows + 1) * $vectors < S::REGISTER_COUNT || $rows == 1 && first < count {
                let factors: [&[f32]; $rows] = std::array::from_fn(|row| factors(first + row));
                let row_stride = sums.row_stride;
                let sums = &mut sums.values[first * row_stride..][..$rows * row_stride];
                let mut column = 0;
                macro_rules! vectors {
                    ($count:literal) => {
                        while columns - column >= $count * S::F32_LANES {
                            ahead.advance(part);
                            let sums = MatrixMut { values: &mut *sums, row_stride };
                            simd.vectorize(MicroTile::<$rows, $count> { factors, rhs, column, sums });
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
                    edge_tile(&factors, rhs, column..columns, MatrixMut { values: sums, row_stride });
                }
                first += $rows;
            })*
        };
    }
    // With fewer rows more vectors: a processor begins several sums before the first one is done.
    blocks!(8 of 2, 6 of 2, 4 of 2, 2 of 4, 1 of 4);
}

/// Sums of some rows and some vectors. They leave registers at its end only, so the compiler keeps none in memory.
struct MicroTile<'a, const ROWS: usize, const VECTORS: usize> {
    factors: [&'a [f32]; ROWS],
    rhs: &'a [StridedView<'a>],
    column: usize,
    sums: MatrixMut<'a>,
}

impl<const ROWS: usize, const VECTORS: usize> WithSimd for MicroTile<'_, ROWS, VECTORS> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let mut factors = self.factors;
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
        for table in self.rhs {
            let these = factors.map(|factors| &factors[..table.count]);
            factors = factors.map(|factors| &factors[table.count..]);
            for (k, row) in table.rows_from(self.column).enumerate() {
                let row = S::as_simd_f32s(&row[..VECTORS * S::F32_LANES]).0;
                for (sums, factors) in sums.iter_mut().zip(these) {
                    let factor = simd.splat_f32s(factors[k]);
                    for (sum, &vector) in sums.iter_mut().zip(row) {
                        *sum = simd.mul_add_f32s(factor, vector, *sum);
                    }
                }
            }
        }
        for (row, sums) in self.sums.rows_mut().zip(sums) {
            S::as_mut_simd_f32s(&mut row[self.column..]).0[..VECTORS].copy_from_slice(&sums);
        }
    }
}

/// Sums of some rows where columns do not fill a vector.
#[inline(always)]
fn edge_tile(factors: &[&[f32]], rhs: &[StridedView<'_>], columns: Range<usize>, mut sums: MatrixMut<'_>) {
    for (sums, factors) in sums.rows_mut().zip(factors) {
        let sums = &mut sums[columns.clone()];
        sums.fill(0.0);
        let rows = rhs.iter().flat_map(|table| table.rows_from(columns.start));
        for (factor, row) in factors.iter().zip(rows) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum = factor.mul_add(*value, *sum);
            }
        }
    }
}

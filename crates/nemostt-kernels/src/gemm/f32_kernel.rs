// SPDX-License-Identifier: MIT OR Apache-2.0

//! The innermost loop: a few rows times one panel of weights.
//!
//! A panel is as many columns as two vector registers hold, row by row. Sums of all rows stay in registers while the panel
//! is read once from its beginning to its end; that is the order in which it lies in memory.

use pulp::{Arch, Simd, WithSimd};

use super::{
    super::prefetch::{CACHE_LINE, prefetch_l1},
    ColumnsMut,
    epilogue::{Epilogue, store_with_epilogue},
};

/// Vectors in a row of a panel.
const VECTORS: usize = 2;

/// The most rows that one pass serves, on processors with 32 vector registers: their sums, a row of the panel and a value
/// take 31.
const MAX_ROWS: usize = 14;

/// Columns of a panel where vectors are longest: 512 bits.
const MAX_COLUMNS: usize = VECTORS * 16;

/// Rows of a panel that are worked on in one turn of the loop, so that its own instructions do not count. The depth of all
/// weights is a multiple of it.
pub(super) const UNROLL: usize = 4;

/// How far ahead of its use a panel is asked for, in bytes: of 2, 4 and 8 kB the fastest for 1 to 14 rows.
const PREFETCH_BYTES: usize = 2048;

/// What the registers of this processor hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct MicroTile {
    /// Columns of a panel.
    pub(super) columns: usize,
    /// Rows of one pass.
    pub(super) rows: usize,
}

impl MicroTile {
    pub(super) fn detect() -> Self {
        struct Registers;
        impl WithSimd for Registers {
            type Output = MicroTile;
            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) -> MicroTile {
                MicroTile {
                    columns: VECTORS * S::F32_LANES,
                    rows: ((S::REGISTER_COUNT - VECTORS - 1) / VECTORS).clamp(1, MAX_ROWS),
                }
            }
        }
        Arch::new().dispatch(Registers)
    }
}

/// `lhs`, rows of as many values as the panel is deep, times `panel`, plus `bias`. They go to `output` from column `column`
/// on; `residual`, if there is any, is as large as `output` and is added to it.
pub(super) fn multiply(
    (lhs, residual): (&[f32], Option<&[f32]>),
    panel: &[f32],
    (bias, epilogue): (&[f32], Epilogue),
    output: &mut ColumnsMut<'_>,
    column: usize,
) {
    let (all, depth) = (output.rows(), panel.len() / bias.len());
    // Equal shares: 14 rows are 5, 5 and 4 where 6 fit.
    let passes = all.div_ceil(MicroTile::detect().rows).max(1);
    let share = all.div_ceil(passes).max(1);
    for first in (0..all).step_by(share) {
        let rows = share.min(all - first);
        let lhs = &lhs[first * depth..][..rows * depth];
        macro_rules! pass {
            ($($rows:literal)*) => {
                match rows {
                    $($rows => {
                        let mut acc = [[0.0; MAX_COLUMNS]; $rows];
                        Arch::new().dispatch(MicroKernel { lhs, panel, bias, acc: &mut acc });
                        store_with_epilogue(epilogue, &mut acc, bias.len(), residual, output, (first, column));
                    })*
                    _ => debug_assert!(rows == 0, "no tile has so many rows"),
                }
            };
        }
        pass!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
    }
}

/// Each number of rows is a function of its own, and its sums leave it at its end only: else the compiler keeps some of
/// them in memory, and 14 rows take twice as long.
struct MicroKernel<'a, const ROWS: usize> {
    lhs: &'a [f32],
    panel: &'a [f32],
    bias: &'a [f32],
    acc: &'a mut [[f32; MAX_COLUMNS]; ROWS],
}

impl<const ROWS: usize> WithSimd for MicroKernel<'_, ROWS> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let depth = self.lhs.len() / ROWS;
        let vectors = |values| S::as_simd_f32s(values).0.as_chunks::<VECTORS>().0;
        let lhs: [&[[f32; UNROLL]]; ROWS] = std::array::from_fn(|row| self.lhs[row * depth..][..depth].as_chunks().0);
        let mut acc = [vectors(self.bias)[0]; ROWS];
        for (turn, weights) in vectors(self.panel).as_chunks::<UNROLL>().0.iter().enumerate() {
            for vector in weights.as_flattened() {
                prefetch_l1(std::ptr::from_ref(vector).cast::<u8>().wrapping_add(PREFETCH_BYTES));
            }
            let values: [&[f32; UNROLL]; ROWS] = std::array::from_fn(|row| &lhs[row][turn]);
            for k in 0..UNROLL {
                for row in 0..ROWS {
                    let value = simd.splat_f32s(values[row][k]);
                    acc[row][0] = simd.mul_add_f32s(value, weights[k][0], acc[row][0]);
                    acc[row][1] = simd.mul_add_f32s(value, weights[k][1], acc[row][1]);
                }
            }
        }
        for (out, acc) in self.acc.iter_mut().zip(acc) {
            S::as_mut_simd_f32s(out).0[..VECTORS].copy_from_slice(&acc);
        }
    }
}

/// Asks for the first bytes of a panel, of any form.
pub(super) fn prefetch_panel_head(panel: &[u8]) {
    for line in panel.chunks(CACHE_LINE).take(PREFETCH_BYTES / CACHE_LINE) {
        prefetch_l1(line.as_ptr());
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The innermost loop: a few rows times one panel of weights.
//!
//! A panel is as many columns as two vector registers hold, row by row. Sums of all rows stay in registers while the panel
//! is read once from its beginning to its end; that is the order in which it lies in memory.

use pulp::{Arch, Simd, WithSimd};

use super::{
    super::prefetch::{LINE, fetch},
    Columns,
    epilogue::{Ending, finish},
};

/// Vectors in a row of a panel.
const VECTORS: usize = 2;

/// The most rows that one pass serves, on processors with 32 vector registers: their sums, a row of the panel and a value
/// take 31.
const MOST_ROWS: usize = 14;

/// Columns of a panel where vectors are longest: 512 bits.
const MOST_COLUMNS: usize = VECTORS * 16;

/// Rows of a panel that are worked on in one turn of the loop, so that its own instructions do not count. The depth of all
/// weights is a multiple of it.
pub(super) const UNROLLED: usize = 4;

/// How far ahead of its use a panel is asked for, in bytes: of 2, 4 and 8 kB the fastest for 1 to 14 rows.
const AHEAD: usize = 2048;

/// What the registers of this processor hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile {
    /// Columns of a panel.
    pub(super) columns: usize,
    /// Rows of one pass.
    pub(super) rows: usize,
}

impl Tile {
    pub(super) fn of_this_processor() -> Self {
        struct Registers;
        impl WithSimd for Registers {
            type Output = Tile;
            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) -> Tile {
                Tile {
                    columns: VECTORS * S::F32_LANES,
                    rows: ((S::REGISTER_COUNT - VECTORS - 1) / VECTORS).clamp(1, MOST_ROWS),
                }
            }
        }
        Arch::new().dispatch(Registers)
    }
}

/// `input`, rows of as many values as the panel is deep, times `panel`, plus `bias`. They go to `output` from column `column`
/// on; `more`, if there is any, is as large as `output` and is added to it.
pub(super) fn multiply(
    (input, more): (&[f32], Option<&[f32]>),
    panel: &[f32],
    (bias, ending): (&[f32], Ending),
    output: &mut Columns<'_>,
    column: usize,
) {
    let (all, depth) = (output.rows(), panel.len() / bias.len());
    // Equal shares: 14 rows are 5, 5 and 4 where 6 fit.
    let passes = all.div_ceil(Tile::of_this_processor().rows).max(1);
    let share = all.div_ceil(passes).max(1);
    for first in (0..all).step_by(share) {
        let rows = share.min(all - first);
        let input = &input[first * depth..][..rows * depth];
        macro_rules! pass {
            ($($rows:literal)*) => {
                match rows {
                    $($rows => {
                        let mut sums = [[0.0; MOST_COLUMNS]; $rows];
                        Arch::new().dispatch(Pass { input, panel, bias, sums: &mut sums });
                        finish(ending, &mut sums, bias.len(), more, output, (first, column));
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
struct Pass<'a, const ROWS: usize> {
    input: &'a [f32],
    panel: &'a [f32],
    bias: &'a [f32],
    sums: &'a mut [[f32; MOST_COLUMNS]; ROWS],
}

impl<const ROWS: usize> WithSimd for Pass<'_, ROWS> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let depth = self.input.len() / ROWS;
        let vectors = |values| S::as_simd_f32s(values).0.as_chunks::<VECTORS>().0;
        let input: [&[[f32; UNROLLED]]; ROWS] =
            std::array::from_fn(|row| self.input[row * depth..][..depth].as_chunks().0);
        let mut sums = [vectors(self.bias)[0]; ROWS];
        for (turn, weights) in vectors(self.panel).as_chunks::<UNROLLED>().0.iter().enumerate() {
            for vector in weights.as_flattened() {
                fetch(std::ptr::from_ref(vector).cast::<u8>().wrapping_add(AHEAD));
            }
            let values: [&[f32; UNROLLED]; ROWS] = std::array::from_fn(|row| &input[row][turn]);
            for k in 0..UNROLLED {
                for row in 0..ROWS {
                    let value = simd.splat_f32s(values[row][k]);
                    sums[row][0] = simd.mul_add_f32s(value, weights[k][0], sums[row][0]);
                    sums[row][1] = simd.mul_add_f32s(value, weights[k][1], sums[row][1]);
                }
            }
        }
        for (out, sums) in self.sums.iter_mut().zip(sums) {
            S::as_mut_simd_f32s(out).0[..VECTORS].copy_from_slice(&sums);
        }
    }
}

/// Asks for the first bytes of a panel, of any form.
pub(super) fn fetch_first(panel: &[u8]) {
    for line in panel.chunks(LINE).take(AHEAD / LINE) {
        fetch(line.as_ptr());
    }
}

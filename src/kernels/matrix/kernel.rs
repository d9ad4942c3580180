// SPDX-License-Identifier: MIT OR Apache-2.0

//! The innermost loop: a few rows times one panel of weights.
//!
//! A panel is as many columns as two vector registers hold, row by row. Sums of all rows stay in registers while the panel
//! is read once from its beginning to its end; that is the order in which it lies in memory.

use pulp::{Arch, Simd, WithSimd};
use serde::{Deserialize, Serialize};

use super::{super::vectors::exp, Output};

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
#[cfg(target_arch = "x86_64")]
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

/// What becomes of a product's sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ending {
    /// Nothing.
    Plain,
    /// `x · sigmoid(x)`.
    Silu,
}

/// `rows` rows of `input`, no more than a [`Tile`] has, times `panel`, plus `bias`. They go to `output` from row and column
/// `place` on; `more`, if there is any, is of its size and is added to it.
pub(super) fn multiply(
    rows: usize,
    (input, more): (&[f32], Option<&[f32]>),
    panel: &[f32],
    (bias, ending): (&[f32], Ending),
    output: &Output<'_>,
    place: (usize, usize),
) {
    macro_rules! pass {
        ($($rows:literal)*) => {
            match rows {
                $($rows => {
                    let mut sums = [[0.0; MOST_COLUMNS]; $rows];
                    Arch::new().dispatch(Pass { input, panel, bias, ending, sums: &mut sums });
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let (row, column) = (place.0 + row, place.1);
                        if let Some(more) = more {
                            let more = &more[row * output.columns + column..(row + 1) * output.columns];
                            sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
                        }
                        output.put(row, column, &sums[..bias.len()]);
                    }
                })*
                _ => debug_assert!(rows == 0, "no tile has so many rows"),
            }
        };
    }
    pass!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
}

/// Each number of rows is a function of its own, and its sums leave it at its end only: else the compiler keeps some of
/// them in memory, and 14 rows take twice as long.
struct Pass<'a, const ROWS: usize> {
    input: &'a [f32],
    panel: &'a [f32],
    bias: &'a [f32],
    ending: Ending,
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
                fetch(std::ptr::from_ref(vector).cast());
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
            let out = &mut S::as_mut_simd_f32s(out).0[..VECTORS];
            out.copy_from_slice(&sums);
            if self.ending == Ending::Silu {
                for sum in out {
                    let power = exp(simd, simd.neg_f32s(*sum));
                    *sum = simd.div_f32s(*sum, simd.add_f32s(simd.splat_f32s(1.0), power));
                }
            }
        }
    }
}

/// Asks for what will be read soon. The processor does so by itself, but ends at each page's end and starts late.
#[inline(always)]
#[allow(unsafe_code)]
fn fetch(from: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which reads nothing and fails nowhere, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(AHEAD).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

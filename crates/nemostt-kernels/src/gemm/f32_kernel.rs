// SPDX-License-Identifier: MIT OR Apache-2.0

//! Float32 micro-kernel: a few rows times one panel of weights.
//!
//! A panel is as wide as two vector registers and stored row by row. The accumulators of all rows stay in registers
//! while the panel is read once, sequentially.

use pulp::{Arch, Simd, WithSimd};

use super::{
    super::prefetch::{CACHE_LINE, prefetch_l1},
    ColumnsMut,
    epilogue::{Epilogue, store_with_epilogue},
};

/// Vectors per panel row.
const VECTORS: usize = 2;

/// Maximum rows of a micro-tile, with 32 vector registers: the accumulators, a panel row and a broadcast value take 31.
const MAX_ROWS: usize = 14;

/// Columns of a panel with the widest vectors, 512 bits.
const MAX_COLUMNS: usize = VECTORS * 16;

/// Panel rows per iteration of the unrolled loop, to hide the loop overhead. `k` is always a multiple of it.
pub(super) const UNROLL: usize = 4;

/// Prefetch distance in bytes: of 2, 4 and 8 kB the fastest for 1 to 14 rows.
const PREFETCH_BYTES: usize = 2048;

/// Size of the micro-tile that fits into this processor's registers.
#[derive(Debug, Clone, Copy)]
pub(super) struct MicroTile {
    /// Columns of a panel.
    pub(super) panel_width: usize,
    /// Maximum rows.
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
                    panel_width: VECTORS * S::F32_LANES,
                    rows: ((S::REGISTER_COUNT - VECTORS - 1) / VECTORS).clamp(1, MAX_ROWS),
                }
            }
        }
        Arch::new().dispatch(Registers)
    }
}

/// Multiplies `lhs` \[rows, k\] by `panel` and adds `bias`, applies `epilogue`, adds `residual`, which has the shape of
/// `output`, and stores the result in `output` from column `column` on.
pub(super) fn multiply(
    (lhs, residual): (&[f32], Option<&[f32]>),
    panel: &[f32],
    (bias, epilogue): (&[f32], Epilogue),
    output: &mut ColumnsMut<'_>,
    column: usize,
) {
    let (all, k) = (output.rows(), panel.len() / bias.len());
    // Micro-tiles of nearly equal height: 14 rows become 5, 5 and 4 if 6 fit.
    let tiles = all.div_ceil(MicroTile::detect().rows).max(1);
    let tile_rows = all.div_ceil(tiles).max(1);
    for first in (0..all).step_by(tile_rows) {
        let rows = tile_rows.min(all - first);
        let lhs = &lhs[first * k..][..rows * k];
        macro_rules! micro_tile {
            ($($rows:literal)*) => {
                match rows {
                    $($rows => {
                        let mut acc = [[0.0; MAX_COLUMNS]; $rows];
                        Arch::new().dispatch(MicroKernel { lhs, panel, bias, acc: &mut acc });
                        store_with_epilogue(epilogue, &mut acc, bias.len(), residual, output, (first, column));
                    })*
                    _ => debug_assert!(rows == 0, "no micro-tile has so many rows"),
                }
            };
        }
        micro_tile!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
    }
}

/// Each number of rows is a separate function, and accumulators leave it only at its end: otherwise the compiler spills
/// some of them to memory, and 14 rows take twice as long.
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
        let k = self.lhs.len() / ROWS;
        let vectors = |values| S::as_simd_f32s(values).0.as_chunks::<VECTORS>().0;
        let lhs: [&[[f32; UNROLL]]; ROWS] = std::array::from_fn(|row| self.lhs[row * k..][..k].as_chunks().0);
        let mut acc = [vectors(self.bias)[0]; ROWS];
        for (block, weights) in vectors(self.panel).as_chunks::<UNROLL>().0.iter().enumerate() {
            for vector in weights.as_flattened() {
                prefetch_l1(std::ptr::from_ref(vector).cast::<u8>().wrapping_add(PREFETCH_BYTES));
            }
            let values: [&[f32; UNROLL]; ROWS] = std::array::from_fn(|row| &lhs[row][block]);
            for i in 0..UNROLL {
                for row in 0..ROWS {
                    let value = simd.splat_f32s(values[row][i]);
                    acc[row][0] = simd.mul_add_f32s(value, weights[i][0], acc[row][0]);
                    acc[row][1] = simd.mul_add_f32s(value, weights[i][1], acc[row][1]);
                }
            }
        }
        for (out, acc) in self.acc.iter_mut().zip(acc) {
            S::as_mut_simd_f32s(out).0[..VECTORS].copy_from_slice(&acc);
        }
    }
}

/// Prefetches the first bytes of a panel in any format.
pub(super) fn prefetch_panel_head(panel: &[u8]) {
    for line in panel.chunks(CACHE_LINE).take(PREFETCH_BYTES / CACHE_LINE) {
        prefetch_l1(line.as_ptr());
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! GEMM on the matrix tiles of x86-64 processors (AMX, Intel Xeon since 2023), as accurate as float32.
//!
//! A tile is 16 rows of 64 bytes; one instruction multiplies two tiles of signed bytes and accumulates in int32, which
//! is exact. 24-bit integers are split into three [byte planes](super::byte_planes), and a product takes eight tile
//! multiplications: that of the two lowest planes, 2^-32 of the largest, is omitted. Multiplication takes only a
//! quarter of the time. What matters more is that weights take 3 bytes instead of 4, and need no unpacking.
//!
//! Panels are 16 columns wide. For every 64 rows of weights a panel has three tiles, the lowest plane first. A tile row
//! contains four rows of weights, interleaved by column, as `TDPBSSD` requires.
//!
//! Everything but the tile instructions needs AVX-512 only. So tests emulate those where they are missing.

#[cfg(test)]
mod emulation;
mod quantize;
mod tile_ops;

use std::sync::LazyLock;

#[cfg(test)]
use self::emulation::Tiles;
#[cfg(not(test))]
use self::tile_ops::TileConfigGuard as Tiles;
use super::{
    ColumnsMut, avx512,
    byte_planes::{BytePlanes, PLANES, TILE_ROW_BYTES, TILE_ROWS, TileRow},
    epilogue::EpilogueParams,
    fixed_point::Scale,
};

/// Columns per panel.
pub(super) const PANEL_WIDTH: usize = 16;

/// Bytes of a tile.
const TILE_BYTES: usize = TILE_ROWS * TILE_ROW_BYTES;

/// Accumulator tiles, for products of byte planes that are weighted with 2^8, 2^16, 2^24 and 2^32.
const ACCUMULATORS: usize = 4;

/// The accumulator tiles: [`ACCUMULATORS`], rows, columns.
type Accumulators = [[[i32; PANEL_WIDTH]; TILE_ROWS]; ACCUMULATORS];

/// A larger `k` could overflow int32: each value contributes up to three products of 2^7 · 2^7.
const MAX_K: usize = 1 << 15;

/// Bytes of packed weights \[k, n\]; `None` on overflow.
pub(super) fn packed_size(k: usize, n: usize) -> Option<usize> {
    let (steps, panels) = (k.div_ceil(TILE_ROW_BYTES), n.div_ceil(PANEL_WIDTH));
    steps.checked_mul(PLANES * TILE_BYTES)?.checked_mul(panels)
}

/// Whether this processor has tiles, and this process may use them.
pub(super) fn has_tiles() -> bool {
    static HAS_TILES: LazyLock<bool> = LazyLock::new(tile_ops::request_permission);
    *HAS_TILES
}

/// Whether rows of `k` values can be multiplied: with tiles, or in tests with their emulation.
pub(super) fn supports_k(k: usize) -> bool {
    k <= MAX_K && (has_tiles() || cfg!(test) && avx512::is_supported())
}

/// Packs the byte planes of a panel from `values`, \[k, [`PANEL_WIDTH`]\], into `dst`. Returns the dequantization
/// factor of each column.
///
/// # Panics
/// If rows of this length are [not supported](supports_k).
pub(super) fn pack(values: &[[f32; PANEL_WIDTH]], dst: &mut [u8]) -> [f32; PANEL_WIDTH] {
    assert!(supports_k(values.len()));
    // SAFETY: the processor supports AVX-512: `request_permission` checks that, too.
    #[allow(unsafe_code)]
    let scales = unsafe { quantize::pack(values, dst) };
    scales.map(|scale| scale.dequantize)
}

/// The scale of a row of a left-hand side.
///
/// # Panics
/// If this processor does not support AVX-512.
pub(super) fn row_scale(values: &[f32]) -> Scale {
    assert!(avx512::is_supported());
    // SAFETY: the processor supports AVX-512, as asserted.
    #[allow(unsafe_code)]
    Scale::from_abs_max(unsafe { quantize::abs_max(values) })
}

/// Quantizes up to 64 values of a row, and writes each of their bytes to the tile row of its plane, padded with zeros.
///
/// # Panics
/// If there are more values, or this processor does not support AVX-512.
pub(super) fn split_planes(values: &[f32], scale: Scale, planes: [&mut TileRow; PLANES]) {
    assert!(avx512::is_supported() && values.len() <= TILE_ROW_BYTES);
    // SAFETY: the processor supports AVX-512, as asserted.
    #[allow(unsafe_code)]
    unsafe {
        quantize::split_planes(values, scale, planes);
    }
}

/// Multiplies `lhs` \[rows, k\] by `panels` and stores the result in `output` from column `first` on, with epilogue.
/// `residual`, which has the shape of `output`, is added.
///
/// # Panics
/// If the values of `k` do not match, or AMX is not available.
pub(super) fn multiply<'a>(
    (lhs, k, residual): (BytePlanes<'_>, usize, Option<&[f32]>),
    panels: impl Iterator<Item = (&'a [u8], EpilogueParams<'a>)> + Clone,
    first: usize,
    output: &mut ColumnsMut<'_>,
) {
    // Overwritten for each panel, as far as it is read.
    let mut acc = [[[0; PANEL_WIDTH]; TILE_ROWS]; ACCUMULATORS];
    for (row, tile_rows, row_scales) in lhs.row_groups(k) {
        let tiles = Tiles::with_rows(row_scales.len());
        for (column, (panel, params)) in (first..).step_by(PANEL_WIDTH).zip(panels.clone()) {
            tiles.multiply(tile_rows, panel, &mut acc);
            // SAFETY: as in `pack`.
            #[allow(unsafe_code)]
            unsafe {
                quantize::store_panel(&acc, row_scales, &params, residual, output, (row, column));
            }
        }
    }
}

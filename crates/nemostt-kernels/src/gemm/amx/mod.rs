// SPDX-License-Identifier: MIT OR Apache-2.0

//! Products on the matrix tiles of x86 processors (AMX, Intel Xeon since 2023), as exact as in float32.
//!
//! A tile is 16 rows of 64 bytes; one instruction multiplies two of them, digits of 8 bits, with sums of 32 bits that lose
//! nothing. Numbers of 24 bits are three [digits](byte_planes), so all of it is done with eight tile products: that of the two lowest
//! digits, 2^-32 of the largest, is left out. What counts more than the multiplying, which takes a quarter of the time:
//! weights are 3 bytes each and not 4, and they are used as they come from memory.
//!
//! Weights lie in panels of 16 columns. For 64 rows each, a panel has three tiles, the lowest digits first; a row of a tile
//! is four rows of weights, column by column, as the instruction wants them.

mod byte_planes;
mod quantize;
mod tile_ops;

use std::sync::LazyLock;

pub use self::byte_planes::BytePlanes as Input;
use self::byte_planes::{PLANES, TILE_ROW_BYTES, TILE_ROWS};
use self::tile_ops::TileConfigGuard;
use super::{ColumnsMut, epilogue::EpilogueParams};

/// Columns of a panel.
pub(super) const PANEL_WIDTH: usize = 16;

/// Bytes of a tile.
const TILE_BYTES: usize = TILE_ROWS * TILE_ROW_BYTES;

/// Sums of digits' products that a row and a column have: of 2^8, 2^16, 2^24 and 2^32.
const ACCUMULATORS: usize = 4;

/// See [`ACCUMULATORS`], by rows.
type Accumulators = [[[i32; PANEL_WIDTH]; TILE_ROWS]; ACCUMULATORS];

/// Deeper products might overflow sums of 32 bits: three products of digits of 2^7 at each value.
const MAX_K: usize = 1 << 15;

/// Bytes of weights' digits for products of `depth` values and `columns` columns; `None`, if nothing is as large.
pub(super) fn packed_size(depth: usize, columns: usize) -> Option<usize> {
    let (steps, panels) = (depth.div_ceil(TILE_ROW_BYTES), columns.div_ceil(PANEL_WIDTH));
    steps.checked_mul(PLANES * TILE_BYTES)?.checked_mul(panels)
}

/// Whether tiles can multiply `depth` values here.
pub(super) fn supports_k(depth: usize) -> bool {
    static IS_SUPPORTED: LazyLock<bool> = LazyLock::new(tile_ops::request_permission);
    depth <= MAX_K && *IS_SUPPORTED
}

/// Puts the digits of a panel into `dst`, from `values`: rows of [`PANEL_WIDTH`] values. Gives what the numbers of each column
/// are multiplied by.
///
/// # Panics
/// If there are no tiles.
pub(super) fn pack(values: &[[f32; PANEL_WIDTH]], dst: &mut [u8]) -> [f32; PANEL_WIDTH] {
    assert!(supports_k(values.len()));
    // SAFETY: a processor with tiles has these vectors: `amx::request_permission` sees to it.
    #[allow(unsafe_code)]
    let scales = unsafe { quantize::pack(values, dst) };
    scales.map(|scale| scale.dequantize)
}

/// `lhs` times `panels`, of which there is one for each of `columns`. They go to `output` from column `first` on; `residual`,
/// if there is any, is as large as `output` and is added to it.
///
/// # Panics
/// If a panel is not as deep as the input, or there are no tiles.
pub(super) fn multiply<'a>(
    (lhs, depth, residual): (&Input, usize, Option<&[f32]>),
    panels: impl Iterator<Item = (&'a [u8], EpilogueParams<'a>)> + Clone,
    first: usize,
    output: &mut ColumnsMut<'_>,
) {
    // Written anew for each panel, as far as they are read.
    let mut sums = [[[0; PANEL_WIDTH]; TILE_ROWS]; ACCUMULATORS];
    for (row, lines, row_scales) in lhs.row_groups(depth) {
        let tiles = TileConfigGuard::with_rows(row_scales.len());
        for (place, (panel, column)) in (first..).step_by(PANEL_WIDTH).zip(panels.clone()) {
            tiles.multiply(lines, panel, &mut sums);
            // SAFETY: as in `pack`; there are tiles.
            #[allow(unsafe_code)]
            unsafe {
                quantize::store_panel(&sums, row_scales, &column, residual, output, (row, place));
            }
        }
    }
}

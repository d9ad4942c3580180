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

pub(crate) use self::byte_planes::Digits as Input;
use self::byte_planes::{DIGITS, LINE, TILE_ROWS};
use self::tile_ops::Tiles;
use super::{Columns, epilogue::Column};

/// Columns of a panel.
pub(super) const COLUMNS: usize = 16;

/// Bytes of a tile.
const TILE: usize = TILE_ROWS * LINE;

/// Sums of digits' products that a row and a column have: of 2^8, 2^16, 2^24 and 2^32.
const SUMS: usize = 4;

/// See [`SUMS`], by rows.
type Sums = [[[i32; COLUMNS]; TILE_ROWS]; SUMS];

/// Deeper products might overflow sums of 32 bits: three products of digits of 2^7 at each value.
const MOST_DEPTH: usize = 1 << 15;

/// Bytes of weights' digits for products of `depth` values and `columns` columns; `None`, if nothing is as large.
pub(super) fn bytes(depth: usize, columns: usize) -> Option<usize> {
    let (steps, panels) = (depth.div_ceil(LINE), columns.div_ceil(COLUMNS));
    steps.checked_mul(DIGITS * TILE)?.checked_mul(panels)
}

/// Whether tiles can multiply `depth` values here.
pub(super) fn are_there(depth: usize) -> bool {
    static ARE_THERE: LazyLock<bool> = LazyLock::new(tile_ops::ask);
    depth <= MOST_DEPTH && *ARE_THERE
}

/// Puts the digits of a panel into `room`, from `values`: rows of [`COLUMNS`] values. Gives what the numbers of each column
/// are multiplied by.
///
/// # Panics
/// If there are no tiles.
pub(super) fn pack(values: &[[f32; COLUMNS]], room: &mut [u8]) -> [f32; COLUMNS] {
    assert!(are_there(values.len()));
    // SAFETY: a processor with tiles has these vectors: `amx::ask` sees to it.
    #[allow(unsafe_code)]
    let scales = unsafe { quantize::pack(values, room) };
    scales.map(|scale| scale.to_float)
}

/// `input` times `panels`, of which there is one for each of `columns`. They go to `output` from column `first` on; `more`,
/// if there is any, is as large as `output` and is added to it.
///
/// # Panics
/// If a panel is not as deep as the input, or there are no tiles.
pub(super) fn multiply<'a>(
    (input, depth, more): (&Input, usize, Option<&[f32]>),
    panels: impl Iterator<Item = (&'a [u8], Column<'a>)> + Clone,
    first: usize,
    output: &mut Columns<'_>,
) {
    // Written anew for each panel, as far as they are read.
    let mut sums = [[[0; COLUMNS]; TILE_ROWS]; SUMS];
    for (row, lines, row_scales) in input.groups(depth) {
        let tiles = Tiles::with_rows(row_scales.len());
        for (place, (panel, column)) in (first..).step_by(COLUMNS).zip(panels.clone()) {
            tiles.multiply(lines, panel, &mut sums);
            // SAFETY: as in `pack`; there are tiles.
            #[allow(unsafe_code)]
            unsafe {
                quantize::end(&sums, row_scales, &column, more, output, (row, place));
            }
        }
    }
}

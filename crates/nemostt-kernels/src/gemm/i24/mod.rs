// SPDX-License-Identifier: MIT OR Apache-2.0

//! GEMM with weights as 24-bit integers, on AVX-512: as accurate as float32, with a quarter less memory to read.
//!
//! Weights are converted to float32 in registers, once for all rows, and multiplied and accumulated as float32; the
//! scale of a column is applied to its accumulators. See [`fixed_point`](super::fixed_point) for the precision. The
//! left-hand side is not quantized.
//!
//! A panel is 32 columns wide, stored row by row with 3 bytes per weight, little-endian. Its accumulators for 14 rows
//! take 28 of the 32 registers, so values of the left-hand side are broadcast from memory, each for two vectors of
//! weights. They are [packed](PackedLhs) in the order of use, because in row-major order with 2048 values per row, the
//! values of a column map to the same few cache sets, and half of them are evicted.

mod avx512;
mod transpose;

use std::ops::Range;

pub(super) use super::avx512::is_supported;
use super::{
    PackedLhs, Target,
    avx512::LANES,
    epilogue::EpilogueParams,
    fixed_point::Scale,
    packed_lhs::{MAX_ROWS, row_groups},
};

/// Columns per panel.
pub(super) const PANEL_WIDTH: usize = 2 * LANES;

/// Bytes per weight.
const BYTES: usize = 3;

/// Bytes of packed weights \[k, n\]; `None` on overflow.
pub(super) fn packed_size(k: usize, n: usize) -> Option<usize> {
    let row = n.checked_next_multiple_of(PANEL_WIDTH)?.checked_mul(BYTES)?;
    row.checked_mul(k)
}

/// Packs a panel from `values`, \[k, [`PANEL_WIDTH`]\], into `dst`. Returns the dequantization factor of each column.
///
/// # Panics
/// If this processor does not support AVX-512, or `dst` is too small.
pub(super) fn pack(values: &[[f32; PANEL_WIDTH]], dst: &mut [u8]) -> [f32; PANEL_WIDTH] {
    assert!(is_supported());
    // SAFETY: the processor supports AVX-512, as asserted.
    #[allow(unsafe_code)]
    let scales = unsafe { avx512::pack(values, dst) };
    scales.map(|scale| scale.dequantize)
}

/// Accumulators of a group of rows.
type MicroTile = [[f32; PANEL_WIDTH]; MAX_ROWS];

/// A row of a panel as floats, times 256.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct UnpackedRow([f32; PANEL_WIDTH]);

/// Groups of rows that share what is unpacked.
const SHARING_GROUPS: usize = 4;

/// Rows of a panel that are unpacked before the next group reads them: they stay in the L1 cache, with as many values of each
/// row of the left-hand side.
const UNPACKED_ROWS: usize = 96;

/// Multiplies `lhs` \[rows, k\] by `panels`, each including its [`TAIL_PADDING`](super::huge_pages::TAIL_PADDING), and
/// stores the result in `target` from column `first` on, with epilogue. `residual`, which has the shape of the output,
/// is added.
///
/// # Panics
/// If the shapes do not match, this processor does not support AVX-512, or there is a residual and the target is
/// packed.
pub(super) fn multiply<'a>(
    (lhs, k, residual): (PackedLhs<'_>, usize, Option<&[f32]>),
    panels: impl Iterator<Item = (&'a [u8], EpilogueParams<'a>)> + Clone,
    first: usize,
    target: &mut Target<'_>,
) {
    assert!(is_supported());
    let mut groups = row_groups(lhs.rows()).enumerate();
    match row_groups(lhs.rows()).count() {
        0 => {}
        1 => multiply_groups::<1>((lhs, k, residual), &mut groups, panels, first, target, &mut []),
        _ => {
            let mut unpacked = [UnpackedRow([0.0; PANEL_WIDTH]); UNPACKED_ROWS];
            let (lhs, unpacked) = ((lhs, k, residual), &mut unpacked[..]);
            multiply_groups::<SHARING_GROUPS>(lhs, &mut groups, panels, first, target, unpacked);
        }
    }
}

/// Multiplies `groups`, GROUPS at a time. `unpacked` is not used for a single group.
fn multiply_groups<'a, const GROUPS: usize>(
    (lhs, k, residual): (PackedLhs<'_>, usize, Option<&[f32]>),
    groups: &mut impl Iterator<Item = (usize, Range<usize>)>,
    panels: impl Iterator<Item = (&'a [u8], EpilogueParams<'a>)> + Clone,
    first: usize,
    target: &mut Target<'_>,
    unpacked: &mut [UnpackedRow],
) {
    let mut acc = [[[0.0; PANEL_WIDTH]; MAX_ROWS]; GROUPS];
    loop {
        let mut sharing: [(usize, Range<usize>); GROUPS] = std::array::from_fn(|_| (0, 0..0));
        let count = sharing
            .iter_mut()
            .zip(&mut *groups)
            .map(|(slot, group)| *slot = group)
            .count();
        if count == 0 {
            return;
        }
        let sharing = &sharing[..count];
        for (column, (panel, params)) in (first..).step_by(PANEL_WIDTH).zip(panels.clone()) {
            multiply_panel((lhs, k), sharing, panel, unpacked, &mut acc);
            for ((group, rows), acc) in sharing.iter().zip(&mut acc) {
                let acc = &mut acc[..rows.len()];
                // SAFETY: as in `pack`.
                #[allow(unsafe_code)]
                unsafe {
                    match target {
                        Target::RowMajor(output) => {
                            avx512::store_panel(acc, &params, residual, output, (rows.start, column));
                        }
                        Target::Packed(packed) => {
                            assert!(residual.is_none());
                            avx512::apply_epilogue(acc, &params);
                            let count = PANEL_WIDTH.min(packed.k() - column);
                            packed.put(*group, column, (acc.as_flattened(), PANEL_WIDTH), count);
                        }
                    }
                }
            }
        }
    }
}

/// Multiplies each group of rows of `lhs` by `panel`.
fn multiply_panel(
    (lhs, k): (PackedLhs<'_>, usize),
    groups: &[(usize, Range<usize>)],
    panel: &[u8],
    unpacked: &mut [UnpackedRow],
    acc: &mut [MicroTile],
) {
    macro_rules! by_rows {
        ($count:expr, $kernel:ident, $arguments:tt) => { by_rows!($count, $kernel, $arguments, 1 2 3 4 5 6 7 8 9 10 11 12 13 14) };
        ($count:expr, $kernel:ident, $arguments:tt, $($rows:literal)*) => {
            match $count {
                $(
                    // SAFETY: as in `pack`.
                    #[allow(unsafe_code)]
                    $rows => unsafe { avx512::$kernel::<$rows> $arguments },
                )*
                _ => debug_assert!(false, "no micro-tile has so many rows"),
            }
        };
    }
    for (acc, (_, rows)) in acc.iter_mut().zip(groups) {
        acc[..rows.len()].fill([0.0; PANEL_WIDTH]);
    }
    if let [(_, rows)] = groups {
        let values = lhs.group(rows.clone(), k);
        by_rows!(rows.len(), multiply_packed, (values, panel, &mut [], &mut acc[0]));
        return;
    }
    let row_bytes = PANEL_WIDTH * BYTES;
    for start in (0..k).step_by(UNPACKED_ROWS) {
        let count = UNPACKED_ROWS.min(k - start);
        let unpacked = &mut unpacked[..count];
        for (index, (acc, (_, rows))) in acc.iter_mut().zip(groups).enumerate() {
            let values = &lhs.group(rows.clone(), k)[start * rows.len()..][..count * rows.len()];
            match index {
                0 => by_rows!(
                    rows.len(),
                    multiply_packed,
                    (values, &panel[start * row_bytes..], unpacked, acc)
                ),
                _ => by_rows!(rows.len(), multiply_unpacked, (values, unpacked, acc)),
            }
        }
    }
}

/// Transposes `rows` rows of `count` values into `dst`, \[count, rows\]. The rows of `block` are `stride` values apart.
///
/// # Panics
/// If there are more rows than [a group](super::packed_lhs::MAX_ROWS) has, the sizes of `block` and `dst` do not match,
/// or this processor does not support AVX-512.
pub(super) fn transpose(block: &[f32], stride: usize, (rows, count): (usize, usize), dst: &mut [f32]) {
    assert!(is_supported());
    // SAFETY: as in `pack`.
    #[allow(unsafe_code)]
    unsafe {
        transpose::transpose(block, stride, (rows, count), dst);
    }
}

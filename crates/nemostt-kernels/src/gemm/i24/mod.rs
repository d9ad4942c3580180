// SPDX-License-Identifier: MIT OR Apache-2.0

//! Products with weights that are integers of 24 bits, on vectors of 512 bits: as exact as in float32, with a quarter less of
//! memory to read.
//!
//! Weights become floats in registers, once for all rows, and are multiplied and summed up as floats; the scale of a column
//! is applied to its sums. How exact that is: [`scale`](super::fixed_point). Inputs stay as they are.
//!
//! A panel is 32 columns, row by row, 3 bytes for each number, the lowest first. Its sums for 14 rows take 28 of the 32
//! registers, so the values of the rows come from memory, each multiplied by two vectors of weights: they lie in the
//! order in which they are needed, value by value and then row by row. (Rows of 2048 values one behind the other have
//! all their values of a column in the same few lines of the cache, which then holds half of them.)

mod avx512;

pub(super) use super::avx512::is_supported;
use super::{PackedLhs, Target, avx512::LANES, epilogue::EpilogueParams, fixed_point::Scale, packed_lhs::row_groups};

/// Columns of a panel.
pub(super) const PANEL_WIDTH: usize = 2 * LANES;

/// Bytes of a number.
const BYTES: usize = 3;

/// Bytes of weights for products of `depth` values and `columns` columns; `None`, if nothing is as large.
pub(super) fn packed_size(depth: usize, columns: usize) -> Option<usize> {
    let row = columns.checked_next_multiple_of(PANEL_WIDTH)?.checked_mul(BYTES)?;
    row.checked_mul(depth)
}

/// Puts the numbers of a panel into `dst`, from `values`: rows of [`PANEL_WIDTH`] values. Gives what the numbers of each column
/// are multiplied by.
///
/// # Panics
/// If this processor has no such vectors, or there is no room.
pub(super) fn pack(values: &[[f32; PANEL_WIDTH]], dst: &mut [u8]) -> [f32; PANEL_WIDTH] {
    assert!(is_supported());
    // SAFETY: the processor has these vectors.
    #[allow(unsafe_code)]
    let scales = unsafe { avx512::pack(values, dst) };
    scales.map(|scale| scale.dequantize)
}

/// `lhs`, rows of `depth` values, times `panels`, each with what lies [behind](super::huge_pages::TAIL_PADDING) it. They go to `target`
/// from column `first` on; `residual`, if there is any, is as large as an output and is added to it.
///
/// # Panics
/// If a panel is not as deep as the input, this processor has no such vectors, or `residual` is there where results are turned.
pub(super) fn multiply<'a>(
    (lhs, depth, residual): (PackedLhs<'_>, usize, Option<&[f32]>),
    panels: impl Iterator<Item = (&'a [u8], EpilogueParams<'a>)> + Clone,
    first: usize,
    target: &mut Target<'_>,
) {
    assert!(is_supported());
    for (group, rows) in row_groups(lhs.rows()).enumerate() {
        let values = lhs.group(rows.clone(), depth);
        for (column, (panel, ends)) in (first..).step_by(PANEL_WIDTH).zip(panels.clone()) {
            macro_rules! pass {
                ($($rows:literal)*) => {
                    match rows.len() {
                        $($rows => {
                            let mut sums = [[0.0; PANEL_WIDTH]; $rows];
                            // SAFETY: the processor has these vectors.
                            #[allow(unsafe_code)]
                            unsafe {
                                avx512::micro_kernel(values, panel, &mut sums);
                                match target {
                                    Target::RowMajor(output) => {
                                        avx512::store_panel(&sums, &ends, residual, output, (rows.start, column));
                                    }
                                    Target::Packed(turned) => {
                                        assert!(residual.is_none());
                                        avx512::apply_epilogue(&mut sums, &ends);
                                        let count = PANEL_WIDTH.min(turned.k() - column);
                                        turned.put(group, column, (sums.as_flattened(), PANEL_WIDTH), count);
                                    }
                                }
                            }
                        })*
                        _ => debug_assert!(rows.is_empty(), "no pass serves so many rows"),
                    }
                };
            }
            pass!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
        }
    }
}

/// Turns `rows` rows of `count` values, of which `block` has the first values of each at multiples of `stride`: value by
/// value, and then row by row, into `dst`, which has place for no more.
///
/// # Panics
/// If there are more rows than [a group](super::packed_lhs::MAX_ROWS) has, `dst` is of another size, or this processor has
/// no such vectors.
pub(super) fn transpose(block: &[f32], stride: usize, (rows, count): (usize, usize), dst: &mut [f32]) {
    assert!(is_supported());
    // SAFETY: the processor has these vectors.
    #[allow(unsafe_code)]
    unsafe {
        avx512::transpose(block, stride, (rows, count), dst);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The tile instructions with vectors, so that tests cover everything around them on processors that have AVX-512, but no
//! AMX. Sums of integers are exact, so the results are those of tiles.

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Accumulators, PANEL_WIDTH, TILE_BYTES, avx512, has_tiles, tile_ops::TileConfigGuard};
use crate::gemm::byte_planes::{PLANES, TILE_ROW_BYTES, TILE_ROWS, TileRow};

/// Tiles, where there are some.
pub(super) enum Tiles {
    Hardware(TileConfigGuard),
    Emulated { rows: usize },
}

impl Tiles {
    pub(super) fn with_rows(rows: usize) -> Self {
        assert!((1..=TILE_ROWS).contains(&rows));
        match has_tiles() {
            true => Self::Hardware(TileConfigGuard::with_rows(rows)),
            false => Self::Emulated { rows },
        }
    }

    pub(super) fn multiply(&self, tile_rows: &[TileRow], panel: &[u8], acc: &mut Accumulators) {
        match self {
            Self::Hardware(tiles) => tiles.multiply(tile_rows, panel, acc),
            Self::Emulated { rows } => multiply(*rows, tile_rows, panel, acc),
        }
    }
}

/// See [`TileConfigGuard::multiply`].
fn multiply(rows: usize, tile_rows: &[TileRow], panel: &[u8], acc: &mut Accumulators) {
    let steps = panel.len() / (PLANES * TILE_BYTES);
    assert!(steps > 0 && tile_rows.len() == steps * PLANES * rows);
    *acc = Accumulators::default();
    assert!(avx512::is_supported());
    for (tile_rows, tiles) in tile_rows.chunks(PLANES * rows).zip(panel.chunks(PLANES * TILE_BYTES)) {
        for (lhs_plane, lhs) in tile_rows.chunks(rows).enumerate() {
            for (weight_plane, weights) in tiles.chunks(TILE_BYTES).enumerate() {
                // The product of the lowest planes is omitted.
                if let Some(index) = (lhs_plane + weight_plane).checked_sub(1) {
                    // SAFETY: the processor supports AVX-512, as asserted.
                    unsafe { multiply_add(lhs, weights, &mut acc[index]) };
                }
            }
        }
    }
}

/// `TDPBSSD`.
#[target_feature(enable = "avx512f,avx512bw")]
fn multiply_add(lhs: &[TileRow], weights: &[u8], acc: &mut [[i32; PANEL_WIDTH]; TILE_ROWS]) {
    for (quad, weights) in weights.as_chunks::<TILE_ROW_BYTES>().0.iter().enumerate() {
        // SAFETY: a tile row is as long as a vector.
        let weights = unsafe { _mm512_loadu_si512(weights.as_ptr().cast()) };
        // Of the four bytes of each column, the first and third, and the others.
        let even = _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(weights));
        let odd = _mm512_srai_epi16::<8>(weights);
        for (lhs, acc) in lhs.iter().zip(&mut *acc) {
            let [a, b, c, d] = std::array::from_fn(|index| i32::from(lhs.0[4 * quad + index] as i8));
            let pair = |low: i32, high: i32| _mm512_set1_epi32((low & 0xffff) | (high << 16));
            let products = _mm512_add_epi32(_mm512_madd_epi16(even, pair(a, c)), _mm512_madd_epi16(odd, pair(b, d)));
            // SAFETY: a row of accumulators is as long as a vector.
            unsafe {
                let sums = _mm512_loadu_si512(acc.as_ptr().cast());
                _mm512_storeu_si512(acc.as_mut_ptr().cast(), _mm512_add_epi32(sums, products));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of all values.
    fn bytes(count: usize, factor: usize) -> Vec<u8> {
        (0..count).map(|index| (index * factor / 3) as u8).collect()
    }

    fn tile_rows(bytes: &[u8]) -> Vec<TileRow> {
        bytes.as_chunks().0.iter().copied().map(TileRow).collect()
    }

    /// Byte `4 i + j` of a row of the left-hand side belongs to byte `j` of each column in row `i` of the weights.
    #[test]
    fn emulation_sums_products_of_signed_bytes() {
        if !avx512::is_supported() {
            return;
        }
        let (lhs, weights) = (bytes(3 * TILE_ROW_BYTES, 7), bytes(TILE_BYTES, 11));
        let mut acc = [[1; PANEL_WIDTH]; TILE_ROWS];
        // SAFETY: the processor supports AVX-512.
        unsafe { multiply_add(&tile_rows(&lhs), &weights, &mut acc) };
        for (row, acc) in acc.iter().enumerate() {
            for (column, &sum) in acc.iter().enumerate() {
                let product = |k: usize| {
                    let weight = weights[k / 4 * TILE_ROW_BYTES + 4 * column + k % 4];
                    i32::from(lhs[row * TILE_ROW_BYTES + k] as i8) * i32::from(weight as i8)
                };
                let expected = if row < 3 {
                    (0..TILE_ROW_BYTES).map(product).sum()
                } else {
                    0
                };
                assert_eq!(sum, 1 + expected, "{row}, {column}");
            }
        }
    }

    #[test]
    fn emulation_equals_tiles() {
        if !has_tiles() {
            return;
        }
        let steps = 3;
        for rows in 1..=TILE_ROWS {
            let lhs = tile_rows(&bytes(steps * PLANES * rows * TILE_ROW_BYTES, 7));
            let panel = bytes(steps * PLANES * TILE_BYTES, 11);
            let [mut tiles, mut emulated] = [Accumulators::default(); 2];
            TileConfigGuard::with_rows(rows).multiply(&lhs, &panel, &mut tiles);
            multiply(rows, &lhs, &panel, &mut emulated);
            for (tiles, emulated) in tiles.iter().zip(&emulated) {
                assert_eq!(tiles[..rows], emulated[..rows], "{rows} rows");
            }
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! 24-bit integers as three planes of signed bytes, for [AMX](super).
//!
//! See [`fixed_point`](super::super::fixed_point) for the precision; the accumulation is exact.
//!
//! The bytes of a number, the lowest first, range from -128 to 127: `n = b0 + 256·b1 + 65536·b2`.

use super::{super::fixed_point::Scale, quantize, supports_k};

/// Bytes of a number, and number of planes.
pub(super) const PLANES: usize = 3;

/// `(n + SIGN_BIAS) ^ SIGN_BIAS` has the signed bytes of `n`.
pub(super) const SIGN_BIAS: i32 = 0x80_80_80;

/// A left-hand side \[rows, k\] in the order in which tiles are loaded: for every 64 values of `k`, the lowest bytes of
/// all rows of a group, then the middle ones, then the highest.
#[derive(Debug, Default)]
pub struct BytePlanes {
    tile_rows: Vec<TileRow>,
    scales: Vec<f32>,
}

/// A tile row: 64 bytes of one plane, which are one cache line.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct TileRow(pub(super) [u8; TILE_ROW_BYTES]);

/// Bytes of a tile row.
pub(super) const TILE_ROW_BYTES: usize = 64;

/// Maximum rows of a tile.
pub(super) const TILE_ROWS: usize = 16;

impl BytePlanes {
    /// Quantizes rows of `k` values. Allocates only if there were fewer before.
    ///
    /// # Panics
    /// If AMX is not available.
    pub(in crate::gemm) fn pack(&mut self, lhs: &[f32], k: usize) {
        assert!(supports_k(k));
        let (rows, steps) = (lhs.len() / k, k.div_ceil(TILE_ROW_BYTES));
        self.scales.resize(rows, 0.0);
        self.tile_rows
            .resize(rows * steps * PLANES, TileRow([0; TILE_ROW_BYTES]));
        let row_groups = self.tile_rows.chunks_mut(TILE_ROWS * steps * PLANES);
        let inputs = lhs.chunks(TILE_ROWS * k).zip(self.scales.chunks_mut(TILE_ROWS));
        for (tile_rows, (lhs, scales)) in row_groups.zip(inputs) {
            let rows = scales.len();
            for (row, (values, dequantize)) in lhs.chunks_exact(k).zip(scales).enumerate() {
                // SAFETY: AMX is available, and `request_permission` checked that AVX-512 is, too.
                #[allow(unsafe_code)]
                unsafe {
                    let scale = Scale::from_abs_max(quantize::abs_max(values));
                    quantize::split_planes(values, scale, &mut tile_rows[row..], rows);
                    *dequantize = scale.dequantize;
                }
            }
        }
    }

    /// Groups of up to [`TILE_ROWS`] rows: the first row, the tile rows, and the dequantization factors of the rows.
    pub(super) fn row_groups(&self, k: usize) -> impl Iterator<Item = (usize, &[TileRow], &[f32])> {
        let size = TILE_ROWS * k.div_ceil(TILE_ROW_BYTES) * PLANES;
        let row_groups = self.tile_rows.chunks(size).zip(self.scales.chunks(TILE_ROWS));
        (0..)
            .step_by(TILE_ROWS)
            .zip(row_groups)
            .map(|(row, (tile_rows, scales))| (row, tile_rows, scales))
    }

    /// Number of rows.
    pub(in crate::gemm) fn rows(&self) -> usize {
        self.scales.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn abs_max(values: &[f32]) -> f32 {
        // SAFETY: callers have checked `supports_k`.
        #[allow(unsafe_code)]
        unsafe {
            quantize::abs_max(values)
        }
    }

    fn code(bytes: i32) -> i32 {
        let byte = |index: u32| i32::from((bytes >> (8 * index)) as u8 as i8);
        byte(0) + 256 * byte(1) + 65536 * byte(2)
    }

    #[test]
    fn byte_planes_reconstruct_the_code() {
        for value in (-8_355_704..=8_355_704)
            .step_by(1013)
            .chain([-8_355_704, 8_355_704, 127, 128, -128, -129])
        {
            assert_eq!(code((value + SIGN_BIAS) ^ SIGN_BIAS), value);
        }
    }

    #[test]
    fn non_finite_values_propagate() {
        if !supports_k(0) {
            return;
        }
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = vec![1.0; 70];
            values[65] = value;
            assert!(Scale::from_abs_max(abs_max(&values)).dequantize.is_nan());
        }
        assert_eq!(Scale::from_abs_max(abs_max(&[-3.0, 2.0])), Scale::from_abs_max(3.0));
    }

    #[test]
    fn lhs_is_packed_in_row_groups() {
        if !supports_k(0) {
            return;
        }
        let (rows, k) = (19, 70);
        let lhs: Vec<f32> = (0..rows * k).map(|index| index as f32).collect();
        let mut planes = BytePlanes::default();
        for _ in 0..2 {
            planes.pack(&lhs, k);
            assert_eq!(planes.rows(), rows);
            let row_groups: Vec<_> = planes.row_groups(k).collect();
            assert_eq!(row_groups.iter().map(|group| group.0).collect::<Vec<_>>(), [0, 16]);
            for (first, tile_rows, scales) in row_groups {
                for (row, scale) in scales.iter().enumerate() {
                    for i in 0..2 * TILE_ROW_BYTES {
                        let byte = |index| {
                            let tile_row: &TileRow =
                                &tile_rows[(i / TILE_ROW_BYTES * PLANES + index) * scales.len() + row];
                            f64::from(tile_row.0[i % TILE_ROW_BYTES] as i8)
                        };
                        let got = (byte(0) + 256.0 * byte(1) + 65536.0 * byte(2)) * f64::from(*scale);
                        let expected = if i < k { ((first + row) * k + i) as f64 } else { 0.0 };
                        assert!((got - expected).abs() < 2e-4, "{got} for {expected}");
                    }
                }
            }
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Integers of 24 bits as three digits of 8 bits, for [tiles](super).
//!
//! How exact that is: [`scale`](super::super::fixed_point). The sums here are exact.
//!
//! Digits run from -128 to 127, the lowest first: `n = d0 + 256·d1 + 65536·d2`.

use super::{super::fixed_point::Scale, quantize, supports_k};

/// Digits of a number.
pub(super) const PLANES: usize = 3;

/// What makes 128 of each digit's zero: with it, a digit plus 128 is a byte of the number.
pub(super) const SIGN_BIAS: i32 = 0x80_80_80;

/// Rows of an input, in the order in which tiles read them: for 64 values of each row, the lowest digits of all rows, then
/// the middle ones, then the highest.
#[derive(Debug, Default)]
pub struct BytePlanes {
    lines: Vec<TileRow>,
    scales: Vec<f32>,
}

/// A row of a tile: 64 digits, which are one line of the processor's cache.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct TileRow(pub(super) [u8; TILE_ROW_BYTES]);

/// Digits of a line.
pub(super) const TILE_ROW_BYTES: usize = 64;

/// Rows of a tile, at most.
pub(super) const TILE_ROWS: usize = 16;

impl BytePlanes {
    /// Takes over rows of `depth` values. Nothing is allocated if there were as many before.
    ///
    /// # Panics
    /// If there are no tiles.
    pub(in super::super) fn pack(&mut self, lhs: &[f32], depth: usize) {
        assert!(supports_k(depth));
        let (rows, steps) = (lhs.len() / depth, depth.div_ceil(TILE_ROW_BYTES));
        self.scales.resize(rows, 0.0);
        self.lines.resize(rows * steps * PLANES, TileRow([0; TILE_ROW_BYTES]));
        let row_groups = self.lines.chunks_mut(TILE_ROWS * steps * PLANES);
        let inputs = lhs.chunks(TILE_ROWS * depth).zip(self.scales.chunks_mut(TILE_ROWS));
        for (lines, (lhs, scales)) in row_groups.zip(inputs) {
            let rows = scales.len();
            for (row, (values, known)) in lhs.chunks_exact(depth).zip(scales).enumerate() {
                // SAFETY: there are tiles, and a processor with tiles has these vectors: `amx::request_permission` sees to it.
                #[allow(unsafe_code)]
                unsafe {
                    let scale = Scale::from_abs_max(quantize::abs_max(values));
                    quantize::split_planes(values, scale, &mut lines[row..], rows);
                    *known = scale.dequantize;
                }
            }
        }
    }

    /// The rows in groups that one tile holds: where each begins, its digits, and what its numbers are multiplied by.
    pub(super) fn row_groups(&self, depth: usize) -> impl Iterator<Item = (usize, &[TileRow], &[f32])> {
        let size = TILE_ROWS * depth.div_ceil(TILE_ROW_BYTES) * PLANES;
        let row_groups = self.lines.chunks(size).zip(self.scales.chunks(TILE_ROWS));
        (0..)
            .step_by(TILE_ROWS)
            .zip(row_groups)
            .map(|(row, (lines, scales))| (row, lines, scales))
    }

    /// How many there are.
    pub(in super::super) fn rows(&self) -> usize {
        self.scales.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn abs_max(values: &[f32]) -> f32 {
        // SAFETY: whoever asks has looked for tiles.
        #[allow(unsafe_code)]
        unsafe {
            quantize::abs_max(values)
        }
    }

    fn number(digits: i32) -> i32 {
        let digit = |index: u32| i32::from((digits >> (8 * index)) as u8 as i8);
        digit(0) + 256 * digit(1) + 65536 * digit(2)
    }

    #[test]
    fn byte_planes_reconstruct_the_code() {
        for value in (-8_355_704..=8_355_704)
            .step_by(1013)
            .chain([-8_355_704, 8_355_704, 127, 128, -128, -129])
        {
            assert_eq!(number((value + SIGN_BIAS) ^ SIGN_BIAS), value);
        }
    }

    #[test]
    fn non_finite_values_propagate() {
        if !supports_k(0) {
            return;
        }
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = vec![1.0; 70];
            values[65] = wrong;
            assert!(Scale::from_abs_max(abs_max(&values)).dequantize.is_nan());
        }
        assert_eq!(Scale::from_abs_max(abs_max(&[-3.0, 2.0])), Scale::from_abs_max(3.0));
    }

    #[test]
    fn lhs_is_packed_in_row_groups() {
        if !supports_k(0) {
            return;
        }
        let (rows, depth) = (19, 70);
        let lhs: Vec<f32> = (0..rows * depth).map(|index| index as f32).collect();
        let mut digits = BytePlanes::default();
        for _ in 0..2 {
            digits.pack(&lhs, depth);
            assert_eq!(digits.rows(), rows);
            let row_groups: Vec<_> = digits.row_groups(depth).collect();
            assert_eq!(row_groups.iter().map(|group| group.0).collect::<Vec<_>>(), [0, 16]);
            for (first, lines, scales) in row_groups {
                for (row, scale) in scales.iter().enumerate() {
                    for k in 0..2 * TILE_ROW_BYTES {
                        let digit = |index| {
                            let line: &TileRow = &lines[(k / TILE_ROW_BYTES * PLANES + index) * scales.len() + row];
                            f64::from(line.0[k % TILE_ROW_BYTES] as i8)
                        };
                        let got = (digit(0) + 256.0 * digit(1) + 65536.0 * digit(2)) * f64::from(*scale);
                        let expected = if k < depth {
                            ((first + row) * depth + k) as f64
                        } else {
                            0.0
                        };
                        assert!((got - expected).abs() < 2e-4, "{got} for {expected}");
                    }
                }
            }
        }
    }
}

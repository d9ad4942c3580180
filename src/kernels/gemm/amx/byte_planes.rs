// SPDX-License-Identifier: MIT OR Apache-2.0

//! Integers of 24 bits as three digits of 8 bits, for [tiles](super).
//!
//! How exact that is: [`scale`](super::super::fixed_point). The sums here are exact.
//!
//! Digits run from -128 to 127, the lowest first: `n = d0 + 256·d1 + 65536·d2`.

use super::{super::fixed_point::Scale, are_there, quantize};

/// Digits of a number.
pub(super) const DIGITS: usize = 3;

/// What makes 128 of each digit's zero: with it, a digit plus 128 is a byte of the number.
pub(super) const MIDDLES: i32 = 0x80_80_80;

/// Rows of an input, in the order in which tiles read them: for 64 values of each row, the lowest digits of all rows, then
/// the middle ones, then the highest.
#[derive(Debug, Default)]
pub(crate) struct Digits {
    lines: Vec<Line>,
    scales: Vec<f32>,
}

/// A row of a tile: 64 digits, which are one line of the processor's cache.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Line(pub(super) [u8; LINE]);

/// Digits of a line.
pub(super) const LINE: usize = 64;

/// Rows of a tile, at most.
pub(super) const TILE_ROWS: usize = 16;

impl Digits {
    /// Takes over rows of `depth` values. Nothing is allocated if there were as many before.
    ///
    /// # Panics
    /// If there are no tiles.
    pub(in super::super) fn take(&mut self, input: &[f32], depth: usize) {
        assert!(are_there(depth));
        let (rows, steps) = (input.len() / depth, depth.div_ceil(LINE));
        self.scales.resize(rows, 0.0);
        self.lines.resize(rows * steps * DIGITS, Line([0; LINE]));
        let groups = self.lines.chunks_mut(TILE_ROWS * steps * DIGITS);
        let inputs = input.chunks(TILE_ROWS * depth).zip(self.scales.chunks_mut(TILE_ROWS));
        for (lines, (input, scales)) in groups.zip(inputs) {
            let rows = scales.len();
            for (row, (values, known)) in input.chunks_exact(depth).zip(scales).enumerate() {
                // SAFETY: there are tiles, and a processor with tiles has these vectors: `amx::ask` sees to it.
                #[allow(unsafe_code)]
                unsafe {
                    let scale = Scale::of(quantize::largest(values));
                    quantize::split(values, scale, &mut lines[row..], rows);
                    *known = scale.to_float;
                }
            }
        }
    }

    /// The rows in groups that one tile holds: where each begins, its digits, and what its numbers are multiplied by.
    pub(super) fn groups(&self, depth: usize) -> impl Iterator<Item = (usize, &[Line], &[f32])> {
        let size = TILE_ROWS * depth.div_ceil(LINE) * DIGITS;
        let groups = self.lines.chunks(size).zip(self.scales.chunks(TILE_ROWS));
        (0..)
            .step_by(TILE_ROWS)
            .zip(groups)
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

    fn largest(values: &[f32]) -> f32 {
        // SAFETY: whoever asks has looked for tiles.
        #[allow(unsafe_code)]
        unsafe {
            quantize::largest(values)
        }
    }

    fn number(digits: i32) -> i32 {
        let digit = |index: u32| i32::from((digits >> (8 * index)) as u8 as i8);
        digit(0) + 256 * digit(1) + 65536 * digit(2)
    }

    #[test]
    fn digits_are_those_of_the_number() {
        for value in (-8_355_704..=8_355_704)
            .step_by(1013)
            .chain([-8_355_704, 8_355_704, 127, 128, -128, -129])
        {
            assert_eq!(number((value + MIDDLES) ^ MIDDLES), value);
        }
    }

    #[test]
    fn what_is_not_finite_stays_so() {
        if !are_there(0) {
            return;
        }
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = vec![1.0; 70];
            values[65] = wrong;
            assert!(Scale::of(largest(&values)).to_float.is_nan());
        }
        assert_eq!(Scale::of(largest(&[-3.0, 2.0])), Scale::of(3.0));
    }

    #[test]
    fn rows_are_taken_in_groups() {
        if !are_there(0) {
            return;
        }
        let (rows, depth) = (19, 70);
        let input: Vec<f32> = (0..rows * depth).map(|index| index as f32).collect();
        let mut digits = Digits::default();
        for _ in 0..2 {
            digits.take(&input, depth);
            assert_eq!(digits.rows(), rows);
            let groups: Vec<_> = digits.groups(depth).collect();
            assert_eq!(groups.iter().map(|group| group.0).collect::<Vec<_>>(), [0, 16]);
            for (first, lines, scales) in groups {
                for (row, scale) in scales.iter().enumerate() {
                    for k in 0..2 * LINE {
                        let digit = |index| {
                            let line: &Line = &lines[(k / LINE * DIGITS + index) * scales.len() + row];
                            f64::from(line.0[k % LINE] as i8)
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

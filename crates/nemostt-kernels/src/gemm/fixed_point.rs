// SPDX-License-Identifier: MIT OR Apache-2.0

//! Numbers as integers of 24 bits.
//!
//! A float32 has 24 bits, too, but each its own exponent. Here all numbers of a column of weights, or of a row of an input,
//! share the exponent of their largest: small ones are off by 2^-24 of that. A sum in float32 is no better, for it is
//! rounded to 2^-24 of what it has come to with every number that is added.

/// The largest number: 7 less than 127·(1 + 256 + 65536), which is the largest of three digits from -128 to 127, for what
/// comes out of a division and a product may be rounded up.
pub(super) const MAX_CODE: f32 = 8_355_704.0;

/// The numbers of one row or column, against floats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    /// What a float is multiplied by.
    pub(super) quantize: f32,
    /// What a number is multiplied by: not a number, if not all floats are finite.
    pub(super) dequantize: f32,
}

impl Scale {
    /// That of floats of which the largest is `abs_max` or `-abs_max`.
    pub(super) fn from_abs_max(abs_max: f32) -> Self {
        let quantize = MAX_CODE / abs_max;
        if abs_max.is_finite() && quantize.is_finite() {
            return Self {
                quantize,
                dequantize: abs_max / MAX_CODE,
            };
        }
        // Below 3e-32, all of them are as good as zero.
        let is_zero = abs_max.is_finite();
        Self {
            quantize: 0.0,
            dequantize: if is_zero { 0.0 } else { f32::NAN },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_finite_values_propagate() {
        for wrong in [f32::NAN, f32::INFINITY] {
            assert!(Scale::from_abs_max(wrong).dequantize.is_nan());
        }
        assert_eq!(Scale::from_abs_max(0.0).dequantize, 0.0);
        assert_eq!(Scale::from_abs_max(1e-38).dequantize, 0.0);
    }

    #[test]
    fn quantization_error_is_below_2_pow_minus_24_of_abs_max() {
        for abs_max in [1e-20_f32, 0.3, 1.0, 7e30] {
            let scale = Scale::from_abs_max(abs_max);
            for part in 0..1000 {
                let value = abs_max * (part as f32 / 500.0 - 1.0);
                let number = (value * scale.quantize).round_ties_even();
                assert!(number.abs() <= MAX_CODE);
                let back = f64::from(number) * f64::from(scale.dequantize);
                let error = (back - f64::from(value)).abs() / f64::from(abs_max);
                // The largest ones are rounded as floats, too, of 24 bits each.
                let most = 1.1 + 2.0 * f64::from((value / abs_max).abs());
                assert!(error < most / f64::from(1 << 24), "{value} of {abs_max}: {back}");
            }
        }
    }
}

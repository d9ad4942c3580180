// SPDX-License-Identifier: MIT OR Apache-2.0

//! Quantization to 24-bit integers.
//!
//! A float32 has 24 significant bits, too, but its own exponent. Here all values of a weight column, or of a row of the
//! left-hand side, share one scale, that of the largest: the error is up to 2^-24 of the largest absolute value.
//! Summation in float32 is no more accurate, because each addition rounds to 2^-24 of the partial sum.

/// The largest code: 7 less than 127·(1 + 256 + 65536), the largest value of three signed bytes, because a division and
/// a multiplication may round up.
pub(super) const MAX_CODE: f32 = 8_355_704.0;

/// The scale of one row or column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    /// Factor from a float to its code.
    pub(super) quantize: f32,
    /// Factor from a code to a float; NaN if not all floats are finite.
    pub(super) dequantize: f32,
}

impl Scale {
    /// The scale for values up to `abs_max` in magnitude.
    pub(super) fn from_abs_max(abs_max: f32) -> Self {
        let quantize = MAX_CODE / abs_max;
        if abs_max.is_finite() && quantize.is_finite() {
            return Self {
                quantize,
                dequantize: abs_max / MAX_CODE,
            };
        }
        // Below 3e-32, all values are treated as zero.
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
        for value in [f32::NAN, f32::INFINITY] {
            assert!(Scale::from_abs_max(value).dequantize.is_nan());
        }
        assert_eq!(Scale::from_abs_max(0.0).dequantize, 0.0);
        assert_eq!(Scale::from_abs_max(1e-38).dequantize, 0.0);
    }

    #[test]
    fn quantization_error_is_below_2_pow_minus_24_of_abs_max() {
        for abs_max in [1e-20_f32, 0.3, 1.0, 7e30] {
            let scale = Scale::from_abs_max(abs_max);
            for step in 0..1000 {
                let value = abs_max * (step as f32 / 500.0 - 1.0);
                let code = (value * scale.quantize).round_ties_even();
                assert!(code.abs() <= MAX_CODE);
                let dequantized = f64::from(code) * f64::from(scale.dequantize);
                let error = (dequantized - f64::from(value)).abs() / f64::from(abs_max);
                // Large values have the rounding error of a float32, too.
                let tolerance = 1.1 + 2.0 * f64::from((value / abs_max).abs());
                assert!(
                    error < tolerance / f64::from(1 << 24),
                    "{value} of {abs_max}: {dequantized}"
                );
            }
        }
    }
}

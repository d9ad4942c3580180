// SPDX-License-Identifier: MIT OR Apache-2.0

//! Numbers as integers of 24 bits.
//!
//! A float32 has 24 bits, too, but each its own exponent. Here all numbers of a column of weights, or of a row of an input,
//! share the exponent of their largest: small ones are off by 2^-24 of that. A sum in float32 is no better, for it is
//! rounded to 2^-24 of what it has come to with every number that is added.

/// The largest number: 7 less than 127·(1 + 256 + 65536), which is the largest of three digits from -128 to 127, for what
/// comes out of a division and a product may be rounded up.
pub(super) const LARGEST: f32 = 8_355_704.0;

/// The numbers of one row or column, against floats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    /// What a float is multiplied by.
    pub(super) to_number: f32,
    /// What a number is multiplied by: not a number, if not all floats are finite.
    pub(super) to_float: f32,
}

impl Scale {
    /// That of floats of which the largest is `largest` or `-largest`.
    pub(super) fn of(largest: f32) -> Self {
        let to_number = LARGEST / largest;
        if largest.is_finite() && to_number.is_finite() {
            return Self {
                to_number,
                to_float: largest / LARGEST,
            };
        }
        // Below 3e-32, all of them are as good as zero.
        let is_zero = largest.is_finite();
        Self {
            to_number: 0.0,
            to_float: if is_zero { 0.0 } else { f32::NAN },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_stays_so() {
        for wrong in [f32::NAN, f32::INFINITY] {
            assert!(Scale::of(wrong).to_float.is_nan());
        }
        assert_eq!(Scale::of(0.0).to_float, 0.0);
        assert_eq!(Scale::of(1e-38).to_float, 0.0);
    }

    #[test]
    fn nothing_is_off_by_more_than_a_part_in_16_million_of_the_largest() {
        for largest in [1e-20_f32, 0.3, 1.0, 7e30] {
            let scale = Scale::of(largest);
            for part in 0..1000 {
                let value = largest * (part as f32 / 500.0 - 1.0);
                let number = (value * scale.to_number).round_ties_even();
                assert!(number.abs() <= LARGEST);
                let back = f64::from(number) * f64::from(scale.to_float);
                let error = (back - f64::from(value)).abs() / f64::from(largest);
                // The largest ones are rounded as floats, too, of 24 bits each.
                let most = 1.1 + 2.0 * f64::from((value / largest).abs());
                assert!(error < most / f64::from(1 << 24), "{value} of {largest}: {back}");
            }
        }
    }
}

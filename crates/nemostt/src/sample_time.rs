// SPDX-License-Identifier: MIT OR Apache-2.0

//! Time as an integer number of samples since the start of the stream, and its one conversion to nanoseconds.
//!
//! Samples never drift: only the border to the outside rounds, each time from the same integer.

const NANOSECONDS: u128 = 1_000_000_000;

/// Nanoseconds that `samples` samples last, rounded down as GStreamer does (`gst_util_uint64_scale`).
pub fn samples_to_ns(samples: u64, rate: u32) -> u64 {
    scale(u128::from(samples), NANOSECONDS, u128::from(rate))
}

/// Samples in `ns` nanoseconds, rounded to the nearest.
pub fn ns_to_samples(ns: u64, rate: u32) -> u64 {
    let rate = u128::from(rate);
    ((u128::from(ns) * rate + NANOSECONDS / 2) / NANOSECONDS)
        .try_into()
        .unwrap_or(u64::MAX)
}

fn scale(value: u128, numerator: u128, denominator: u128) -> u64 {
    (value * numerator / denominator.max(1)).try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for samples in [0, 1, 159, 1280, 16_000, 16_000 * 3600 * 24 * 365] {
            assert_eq!(ns_to_samples(samples_to_ns(samples, 16_000), 16_000), samples);
        }
        assert_eq!(samples_to_ns(16_000 * 3600, 16_000), 3600 * 1_000_000_000);
        assert_eq!(samples_to_ns(1280, 16_000), 80_000_000);
    }

    #[test]
    fn the_end_of_time_does_not_overflow() {
        assert_eq!(samples_to_ns(u64::MAX, 16_000), u64::MAX);
        assert!(ns_to_samples(u64::MAX, 16_000) > 0);
    }
}

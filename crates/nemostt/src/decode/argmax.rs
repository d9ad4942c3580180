// SPDX-License-Identifier: MIT OR Apache-2.0

//! Functions of a row of scores, for both decoders.

pub(super) use nemostt_kernels::logits::log_softmax;
use nemostt_kernels::logits::max_logit;

/// Index of the largest score; the first one of equals, as with torch's `argmax` on the CPU.
pub(super) fn argmax(scores: &[f32]) -> usize {
    let max_logit = max_logit(scores);
    // If all scores are NaN, none equals the maximum.
    scores.iter().position(|&score| score == max_logit).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argmax_returns_first_of_equals() {
        assert_eq!(argmax(&[0.0, 2.0, 2.0, 1.0]), 1);
        assert_eq!(argmax(&[f32::NAN; 3]), 0);
    }

    #[test]
    fn log_softmax_sums_to_one_for_huge_logits() {
        let logits = [1000.0, 999.0, -1000.0];
        let sum: f32 = (0..3).map(|id| log_softmax(&logits, id).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! What both decoders do with a row of scores.

/// Index of the largest score; the first of equals, as torch's `argmax` on the processor.
pub(super) fn argmax(scores: &[f32]) -> usize {
    let mut best = 0;
    for (id, &score) in scores.iter().enumerate() {
        if score > scores[best] {
            best = id;
        }
    }
    best
}

/// Log-probability of entry `id` under the softmax of raw `logits`.
pub(super) fn log_softmax(logits: &[f32], id: usize) -> f32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|logit| (logit - largest).exp()).sum();
    logits[id] - largest - sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equals_wins() {
        assert_eq!(argmax(&[0.0, 2.0, 2.0, 1.0]), 1);
    }

    #[test]
    fn probabilities_sum_to_one_even_for_huge_logits() {
        let logits = [1000.0, 999.0, -1000.0];
        let sum: f32 = (0..3).map(|id| log_softmax(&logits, id).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6);
    }
}

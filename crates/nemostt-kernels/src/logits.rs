// SPDX-License-Identifier: MIT OR Apache-2.0

//! Maximum and log-softmax of a row of logits, of about a thousand tokens.

use pulp::{Arch, Simd, WithSimd};

use super::simd_math::{exp, map_sum};

/// Values compared at a time.
const LANES: usize = 64;

/// The largest of `scores`, ignoring NaN; negative infinity if there is none.
pub fn max_logit(scores: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    // Vectorized for this processor.
    Arch::new().dispatch(|| {
        let (blocks, rest) = scores.as_chunks::<LANES>();
        let mut max = [f32::NEG_INFINITY; LANES];
        for block in blocks {
            for (max, &score) in max.iter_mut().zip(block) {
                *max = larger(*max, score);
            }
        }
        max.iter().chain(rest).copied().fold(f32::NEG_INFINITY, larger)
    })
}

/// Log-probability of `logits[id]` under the softmax of all of them.
pub fn log_softmax(logits: &[f32], id: usize) -> f32 {
    let max_logit = max_logit(logits);
    logits[id] - max_logit - Arch::new().dispatch(SumExp { logits, max_logit }).ln()
}

/// Writes the log-probabilities of all `logits`.
///
/// # Panics
/// If the lengths differ.
pub fn log_softmax_row(logits: &[f32], log_probs: &mut [f32]) {
    assert!(logits.len() == log_probs.len());
    let max_logit = max_logit(logits);
    let log_sum = Arch::new().dispatch(SumExp { logits, max_logit }).ln();
    for (log_prob, logit) in log_probs.iter_mut().zip(logits) {
        *log_prob = logit - max_logit - log_sum;
    }
}

/// `Σ e^(logit - max_logit)`.
struct SumExp<'a> {
    logits: &'a [f32],
    max_logit: f32,
}

impl WithSimd for SumExp<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let max_logit = simd.splat_f32s(self.max_logit);
        let power = |logits| exp(simd, simd.sub_f32s(logits, max_logit));
        map_sum(simd, self.logits, power, |logit| (logit - self.max_logit).exp())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::noise, *};

    #[test]
    fn max_logit_is_found_at_any_index() {
        for count in [1, 3, 63, 64, 65, 200, 1025] {
            let mut scores = noise(count, 1);
            for index in [0, count / 2, count - 1] {
                let previous = std::mem::replace(&mut scores[index], 2.0);
                assert_eq!(max_logit(&scores), 2.0, "{index} of {count}");
                scores[index] = f32::NAN;
                assert_eq!(
                    max_logit(&scores),
                    scores.iter().copied().fold(f32::NEG_INFINITY, f32::max)
                );
                scores[index] = previous;
            }
        }
        assert_eq!(max_logit(&[]), f32::NEG_INFINITY);
    }

    #[test]
    fn log_softmax_matches_f64() {
        for (count, scale) in [(1, 1.0), (17, 30.0), (129, 5.0), (1025, 12.0)] {
            let logits: Vec<f32> = noise(count, 2).iter().map(|value| value * scale).collect();
            let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
            for id in [0, count / 2, count - 1] {
                let expected = f64::from(logits[id]) - sum.ln();
                let got = f64::from(log_softmax(&logits, id));
                assert!((got - expected).abs() < 1e-5, "{id} of {count}: {got}, not {expected}");
                let mut all = vec![0.0; count];
                log_softmax_row(&logits, &mut all);
                assert_eq!(all[id], log_softmax(&logits, id));
            }
        }
    }
}

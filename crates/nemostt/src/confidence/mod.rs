// SPDX-License-Identifier: MIT OR Apache-2.0

//! How sure the model is of a token, a word or an utterance.
//!
//! Measures and aggregations are those of NeMo 2.7.3 (`asr_confidence_utils.py`), and the model's own probability of what was
//! decoded, which is the default: it is the only one that says how likely the text is rather than how concentrated the
//! distribution.

mod aggregation;
mod measure;

use crate::{
    error::{Error, Result},
    named::Named,
};

pub(crate) use aggregation::Aggregate;
pub use aggregation::Aggregation;
pub use measure::Measure;

/// How confidence is computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConfidenceConfig {
    /// Confidence of a token, from the scores in its frame.
    pub measure: Measure,
    /// NeMo's α, above 0: the exponent of probabilities in entropies, and of the highest probability. 1: Shannon's entropy,
    /// whichever is chosen. [`Measure::Probability`] does not use it.
    pub alpha: f32,
    /// Confidence of a word, from that of its tokens.
    pub aggregation: Aggregation,
}

impl ConfidenceConfig {
    /// NeMo's default for α.
    pub const DEFAULT_ALPHA: f32 = 0.33;

    /// NeMo's own defaults (`ConfidenceConfig`, `ConfidenceMethodConfig`).
    pub const NEMO: Self = Self {
        measure: Measure::EntropyTsallisExp,
        alpha: Self::DEFAULT_ALPHA,
        aggregation: Aggregation::Min,
    };

    /// # Errors
    /// [`Error::Confidence`] if α is not above 0 and finite.
    pub(crate) fn check(&self) -> Result<()> {
        match self.alpha > 0.0 && self.alpha.is_finite() {
            true => Ok(()),
            false => Err(Error::Confidence { alpha: self.alpha }),
        }
    }

    /// Confidence, 0 to 1, of a token with log-probability `log_prob` in a frame with these logits or log-probabilities.
    pub(crate) fn of_token(&self, logits: &[f32], log_prob: f32) -> f32 {
        self.measure.confidence(logits, log_prob, self.alpha)
    }
}

impl Default for ConfidenceConfig {
    fn default() -> Self {
        Self {
            measure: Measure::default(),
            alpha: Self::DEFAULT_ALPHA,
            aggregation: Aggregation::default(),
        }
    }
}

impl Named for Measure {
    const NAMES: &'static [(Self, &'static str)] = &[
        (Self::Probability, "probability"),
        (Self::MaxProb, "max-prob"),
        (Self::EntropyGibbsLin, "entropy-gibbs-lin"),
        (Self::EntropyGibbsExp, "entropy-gibbs-exp"),
        (Self::EntropyTsallisLin, "entropy-tsallis-lin"),
        (Self::EntropyTsallisExp, "entropy-tsallis-exp"),
        (Self::EntropyRenyiLin, "entropy-renyi-lin"),
        (Self::EntropyRenyiExp, "entropy-renyi-exp"),
    ];
}

impl Named for Aggregation {
    const NAMES: &'static [(Self, &'static str)] = &[
        (Self::GeometricMean, "geometric-mean"),
        (Self::Mean, "mean"),
        (Self::Min, "min"),
        (Self::Max, "max"),
        (Self::Product, "product"),
    ];
}

#[cfg(test)]
mod tests;

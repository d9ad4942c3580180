// SPDX-License-Identifier: MIT OR Apache-2.0

//! Confidence of a token from the scores of its frame.

/// What the confidence of a token is computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Measure {
    /// The model's probability of the token.
    #[default]
    Probability,
    /// The highest probability in the frame, mapped so that a uniform distribution has 0 (NeMo's `max_prob`).
    MaxProb,
    /// Gibbs entropy with a linear mapping to 0 to 1.
    EntropyGibbsLin,
    /// Gibbs entropy with an exponential mapping.
    EntropyGibbsExp,
    /// Tsallis entropy with a linear mapping.
    EntropyTsallisLin,
    /// Tsallis entropy with an exponential mapping. NeMo's default.
    EntropyTsallisExp,
    /// Rényi entropy with a linear mapping.
    EntropyRenyiLin,
    /// Rényi entropy with an exponential mapping.
    EntropyRenyiExp,
}

impl Measure {
    /// Whether it is a property of each frame, so that CTC frames that repeat a token count, too.
    pub(crate) fn is_per_frame(self) -> bool {
        self != Self::Probability
    }

    /// Confidence, 0 to 1, of a token with log-probability `log_prob`, in a frame with these `logits` or log-probabilities.
    ///
    /// The formulas are those of NeMo's `get_confidence_measure_bank`, in double precision; v is the number of classes, blank
    /// included, t is α.
    pub(crate) fn confidence(self, logits: &[f32], log_prob: f32, alpha: f32) -> f32 {
        let value = match self {
            Self::Probability => f64::from(log_prob).exp(),
            _ => self.of_scores(&LogProbs::new(logits), logits.len() as f64, alpha.into()),
        };
        // NaN if the model's scores are NaN. NeMo replaces those before; the confidence is 0 either way.
        if value.is_nan() {
            0.0
        } else {
            value.clamp(0.0, 1.0) as f32
        }
    }
    /// The value from all scores of a frame with `v` classes.
    fn of_scores(self, log_probs: &LogProbs<'_>, v: f64, t: f64) -> f64 {
        let shannon = t == 1.0;
        // Σ p^α, and Σ p^α ln p.
        let power_sum = || log_probs.sum(|x| (x * t).exp());
        let gibbs = || log_probs.sum(|x| (x * t).exp() * x);
        match self {
            Self::Probability | Self::MaxProb => ((log_probs.max() * t).exp() * v.powf(t) - 1.0) / (v.powf(t) - 1.0),
            Self::EntropyGibbsLin | Self::EntropyTsallisLin | Self::EntropyRenyiLin if shannon => {
                1.0 + gibbs() / v.ln()
            }
            Self::EntropyGibbsExp | Self::EntropyTsallisExp | Self::EntropyRenyiExp if shannon => {
                (gibbs().exp() * v - 1.0) / (v - 1.0)
            }
            Self::EntropyGibbsLin => 1.0 + gibbs() / v.ln() / v.powf(1.0 - t),
            Self::EntropyGibbsExp => {
                let lowest = v.powf(-t * v.powf(1.0 - t));
                ((gibbs() * t).exp() - lowest) / (1.0 - lowest)
            }
            Self::EntropyTsallisLin => 1.0 + (1.0 - power_sum()) / (v.powf(1.0 - t) - 1.0),
            Self::EntropyTsallisExp => {
                let lowest = ((1.0 - v.powf(1.0 - t)) / (1.0 - t)).exp();
                (((1.0 - power_sum()) / (1.0 - t)).exp() - lowest) / (1.0 - lowest)
            }
            Self::EntropyRenyiLin => 1.0 + power_sum().log2() / (t - 1.0) / v.log2(),
            Self::EntropyRenyiExp => (power_sum().powf(1.0 / (t - 1.0)) * v - 1.0) / (v - 1.0),
        }
    }
}

/// The log-probabilities of a row of logits.
struct LogProbs<'a> {
    logits: &'a [f32],
    max: f64,
    log_sum: f64,
}

impl<'a> LogProbs<'a> {
    fn new(logits: &'a [f32]) -> Self {
        let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let exp_sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - max).exp()).sum();
        Self {
            logits,
            max,
            log_sum: max + exp_sum.ln(),
        }
    }

    fn max(&self) -> f64 {
        self.max - self.log_sum
    }

    fn sum(&self, term: impl Fn(f64) -> f64) -> f64 {
        // 0 · ln 0 is 0: the smallest f32, as torch's `nan_to_num` has it, instead of minus infinity.
        let log_prob = |&logit: &f32| (f64::from(logit) - self.log_sum).max(f64::from(f32::MIN));
        self.logits.iter().map(log_prob).map(term).sum()
    }
}

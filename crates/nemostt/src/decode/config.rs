// SPDX-License-Identifier: MIT OR Apache-2.0

//! How tokens are chosen.

use crate::{
    error::{Error, Result},
    language_model::LanguageModel,
};

/// How tokens are chosen.
#[derive(Debug, Clone, Default)]
pub enum DecodingMethod {
    /// The best token at each place. The fastest, and its tokens are known at once.
    #[default]
    Greedy,
    /// The best of several transcripts that are followed at the same time.
    Beam(BeamConfig),
}

/// How beam search is done.
#[derive(Debug, Clone)]
pub struct BeamConfig {
    /// Hypotheses that are followed: 1 to [`MAX_SIZE`](Self::MAX_SIZE).
    pub size: usize,
    /// Most transcripts that [`Utterance::alternatives`](crate::Utterance::alternatives) has; 0: none.
    pub n_best: usize,
    /// A language model over the tokens of the model: [`Recognizer::language_model`](crate::Recognizer::language_model).
    pub language_model: Option<LanguageModel>,
    /// How much the language model counts (NeMo's `ngram_lm_alpha`): 0 to
    /// [`MAX_LANGUAGE_MODEL_WEIGHT`](Self::MAX_LANGUAGE_MODEL_WEIGHT).
    pub language_model_weight: f32,
}

impl BeamConfig {
    /// The largest [`size`](Self::size).
    pub const MAX_SIZE: usize = 32;
    /// The default [`size`](Self::size).
    pub const DEFAULT_SIZE: usize = 4;
    /// The default [`language_model_weight`](Self::language_model_weight): that of NeMo's scripts.
    pub const DEFAULT_LANGUAGE_MODEL_WEIGHT: f32 = 0.3;
    /// The largest [`language_model_weight`](Self::language_model_weight): far above any that is of use.
    pub const MAX_LANGUAGE_MODEL_WEIGHT: f32 = 10.0;

    /// Whether it can be used with a model of `tokens` tokens.
    pub(crate) fn check(&self, tokens: usize) -> Result<()> {
        if !(1..=Self::MAX_SIZE).contains(&self.size) {
            let (size, most) = (self.size, Self::MAX_SIZE);
            return Err(Error::DecodingMethod {
                reason: format!("a beam of {size} hypotheses is not possible, expected 1 to {most}"),
            });
        }
        // Not a number is in no range.
        if !(0.0..=Self::MAX_LANGUAGE_MODEL_WEIGHT).contains(&self.language_model_weight) {
            let (weight, most) = (self.language_model_weight, Self::MAX_LANGUAGE_MODEL_WEIGHT);
            return Err(Error::DecodingMethod {
                reason: format!("the weight of the language model is {weight}, expected 0 to {most}"),
            });
        }
        match &self.language_model {
            Some(model) if model.tokens() != tokens => Err(Error::OtherLanguageModel {
                tokens: model.tokens(),
                expected: tokens,
            }),
            _ => Ok(()),
        }
    }
}

impl Default for BeamConfig {
    fn default() -> Self {
        Self {
            size: Self::DEFAULT_SIZE,
            n_best: 0,
            language_model: None,
            language_model_weight: Self::DEFAULT_LANGUAGE_MODEL_WEIGHT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_out_of_range_are_refused() {
        let check = |language_model_weight| {
            let config = BeamConfig {
                language_model_weight,
                ..Default::default()
            };
            config.check(10).map_err(|error| error.to_string())
        };
        for weight in [0.0, 0.3, 10.0] {
            assert_eq!(check(weight), Ok(()));
        }
        for weight in [-0.1, 10.1, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = check(weight).unwrap_err();
            assert!(error.contains(&format!("{weight}, expected 0 to 10")), "{error}");
        }
    }
}

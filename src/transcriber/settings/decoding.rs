// SPDX-License-Identifier: MIT OR Apache-2.0

//! The properties of decoding, and the method that they ask for.

use std::path::Path;

use gst::{glib, prelude::*};
use nemostt::{BeamConfig, Cancellation, DecodingMethod, Recognizer, Result};

use super::properties::read;
use crate::transcriber::enums::NemoSttDecodingMethod;

const NAMES: [&str; 5] = [
    "decoding-method",
    "beam-size",
    "n-best",
    "language-model",
    "language-model-weight",
];

/// The values of the properties.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::transcriber) struct DecodingSettings {
    method: NemoSttDecodingMethod,
    beam_size: u32,
    /// Transcripts of an utterance that are reported; 0: none.
    n_best: u32,
    /// A file.
    language_model: Option<String>,
    language_model_weight: f32,
}

impl Default for DecodingSettings {
    fn default() -> Self {
        Self {
            method: NemoSttDecodingMethod::default(),
            beam_size: BeamConfig::DEFAULT_SIZE as u32,
            n_best: 0,
            language_model: None,
            language_model_weight: BeamConfig::DEFAULT_LANGUAGE_MODEL_WEIGHT,
        }
    }
}

impl DecodingSettings {
    /// Whether a property is one of these.
    pub(super) fn has(name: &str) -> bool {
        NAMES.contains(&name)
    }

    /// Whether several transcripts are followed, so that words are decided later.
    pub(in crate::transcriber) fn is_beam(&self) -> bool {
        self.method == NemoSttDecodingMethod::Beam
    }

    /// An error if a property has no effect: property, value, and what is possible.
    pub(in crate::transcriber) fn contradiction(&self) -> Option<String> {
        let needs_beam =
            |what: String| format!("{what} needs decoding-method=beam, which is greedy: set it, or unset the other");
        match (&self.language_model, self.n_best) {
            _ if self.is_beam() => None,
            (Some(path), _) => Some(needs_beam(format!("language-model=\"{path}\""))),
            (None, 1..) => Some(needs_beam(format!("n-best={}", self.n_best))),
            (None, 0) => None,
        }
    }

    /// The method for streams of `recognizer`. Reads the language model, which takes seconds if it is large.
    ///
    /// # Errors
    /// If the language model cannot be used, or `cancellation` is cancelled meanwhile.
    pub(in crate::transcriber) fn method(
        &self,
        recognizer: &Recognizer,
        cancellation: &Cancellation,
    ) -> Result<DecodingMethod> {
        if !self.is_beam() {
            return Ok(DecodingMethod::Greedy);
        }
        let path = self.language_model.as_deref().map(Path::new);
        let read = |path| recognizer.language_model_cancellable(path, cancellation);
        Ok(DecodingMethod::Beam(BeamConfig {
            size: self.beam_size as usize,
            n_best: self.n_best as usize,
            language_model: path.map(read).transpose()?,
            language_model_weight: self.language_model_weight,
        }))
    }

    /// The descriptions of the properties.
    pub(super) fn param_specs() -> Vec<glib::ParamSpec> {
        let default = Self::default();
        vec![
            glib::ParamSpecEnum::builder_with_default(NAMES[0], default.method)
                .nick("Decoding Method")
                .blurb("How tokens are chosen. With beam, words are decided up to 2 s later, which the latency includes")
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder(NAMES[1])
                .nick("Beam Size")
                .blurb("Transcripts that decoding-method=beam follows at the same time: more find better ones and take longer")
                .minimum(1)
                .maximum(BeamConfig::MAX_SIZE as u32)
                .default_value(default.beam_size)
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder(NAMES[2])
                .nick("N-Best")
                .blurb("Most transcripts in the field alternatives of an utterance, with decoding-method=beam and output=utterances; 0: none")
                .maximum(BeamConfig::MAX_SIZE as u32)
                .default_value(default.n_best)
                .mutable_ready()
                .build(),
            glib::ParamSpecString::builder(NAMES[3])
                .nick("Language Model")
                .blurb(
                    "ARPA file of an n-gram language model over the model's tokens, as NeMo's train_kenlm.py makes it, for \
                     decoding-method=beam",
                )
                .mutable_ready()
                .build(),
            glib::ParamSpecFloat::builder(NAMES[4])
                .nick("Language Model Weight")
                .blurb("How much the language model counts (NeMo's ngram_lm_alpha)")
                .minimum(0.0)
                .maximum(BeamConfig::MAX_LANGUAGE_MODEL_WEIGHT)
                .default_value(default.language_model_weight)
                .mutable_ready()
                .build(),
        ]
    }

    /// Sets the property `name`.
    pub(super) fn set(&mut self, name: &str, value: &glib::Value) {
        match name {
            "decoding-method" => self.method = read(value),
            "beam-size" => self.beam_size = read(value),
            "n-best" => self.n_best = read(value),
            "language-model" => self.language_model = read::<Option<String>>(value).filter(|path| !path.is_empty()),
            _ => self.language_model_weight = read(value),
        }
    }

    /// The value of the property `name`.
    pub(super) fn get(&self, name: &str) -> glib::Value {
        match name {
            "decoding-method" => self.method.to_value(),
            "beam-size" => self.beam_size.to_value(),
            "n-best" => self.n_best.to_value(),
            "language-model" => self.language_model.to_value(),
            _ => self.language_model_weight.to_value(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_that_need_a_beam_are_refused_without_one() {
        let mut settings = DecodingSettings::default();
        assert_eq!(settings.contradiction(), None);
        settings.set("n-best", &3_u32.to_value());
        assert!(settings.contradiction().unwrap().starts_with("n-best=3 needs"));
        settings.set("language-model", &"x.arpa".to_value());
        assert!(settings.contradiction().unwrap().contains("language-model=\"x.arpa\""));
        settings.set("decoding-method", &NemoSttDecodingMethod::Beam.to_value());
        assert_eq!(settings.contradiction(), None);
    }
}

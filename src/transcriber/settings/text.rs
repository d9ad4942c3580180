// SPDX-License-Identifier: MIT OR Apache-2.0

//! The properties of what is done to words before they are output, and of their confidence.
//!
//! As with phrases to boost, files are read when a property is set or the element starts, not by the streaming thread.

use std::{path::Path, sync::Arc};

use gst::{glib, prelude::*};
use nemostt::{
    ConfidenceConfig, Result, TextShaping,
    text::{ConfidenceFilter, ProfanityFilter, ProfanityList, Replacements},
};

use super::properties::read;
use crate::transcriber::enums::{
    NemoSttCapitalize, NemoSttConfidenceAggregation, NemoSttConfidenceMethod, NemoSttLowConfidence,
    NemoSttProfanityAction,
};

/// The values of the properties.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::transcriber) struct TextSettings {
    confidence_method: NemoSttConfidenceMethod,
    confidence_aggregation: NemoSttConfidenceAggregation,
    confidence_alpha: f32,
    /// 0: all words are shown.
    min_confidence: f32,
    low_confidence: NemoSttLowConfidence,
    inverse_text_normalization: bool,
    replacements_file: Option<String>,
    profanity_file: Option<String>,
    profanity_action: NemoSttProfanityAction,
    capitalize: NemoSttCapitalize,
    /// Longest time in milliseconds that a word waits for those after it that may change it.
    pub(super) phrase_hold: u32,
    /// Chunks for which words have stayed before partials show them.
    pub(in crate::transcriber) partial_stability: u32,
    /// How often one of them was set: a file that is set again is read again.
    revision: u64,
    shaping: Shaping,
}

/// What the properties say, with the contents of the files.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::transcriber) struct Shaping {
    /// That of the settings from which it was read.
    pub(in crate::transcriber) revision: u64,
    /// What is done, or why a file cannot be used.
    pub(in crate::transcriber) result: std::result::Result<Arc<TextShaping>, String>,
}

impl Default for TextSettings {
    fn default() -> Self {
        Self {
            confidence_method: NemoSttConfidenceMethod::default(),
            confidence_aggregation: NemoSttConfidenceAggregation::default(),
            confidence_alpha: ConfidenceConfig::DEFAULT_ALPHA,
            min_confidence: 0.0,
            low_confidence: NemoSttLowConfidence::default(),
            inverse_text_normalization: false,
            replacements_file: None,
            profanity_file: None,
            profanity_action: NemoSttProfanityAction::default(),
            capitalize: NemoSttCapitalize::default(),
            phrase_hold: 1000,
            partial_stability: 0,
            revision: 0,
            shaping: Shaping {
                revision: 0,
                result: Ok(Arc::default()),
            },
        }
    }
}

impl TextSettings {
    /// The descriptions of the properties.
    pub(super) fn param_specs() -> Vec<glib::ParamSpec> {
        let mut specs = Self::confidence_specs();
        specs.extend(Self::shaping_specs());
        specs.push(
            glib::ParamSpecUInt::builder("phrase-hold")
                .nick("Phrase Hold")
                .blurb(
                    "Time in milliseconds for which a word may wait for those after it, where they may belong to one number or to \
                     one phrase of replacements-file or profanity-file; with output=utterances, until the utterance ends. Part of \
                     the latency if one of them is used",
                )
                .maximum(60_000)
                .default_value(Self::default().phrase_hold)
                .mutable_playing()
                .build(),
        );
        specs.push(
            glib::ParamSpecUInt::builder("partial-stability")
                .nick("Partial Stability")
                .blurb(
                    "Number of chunks for which a word has to stay before partials show it, unless it is final; 0: all words \
                     are shown",
                )
                .maximum(1000)
                .default_value(Self::default().partial_stability)
                .mutable_playing()
                .build(),
        );
        specs
    }

    fn confidence_specs() -> Vec<glib::ParamSpec> {
        let default = Self::default();
        vec![
            glib::ParamSpecEnum::builder_with_default("confidence-method", default.confidence_method)
                .nick("Confidence Method")
                .blurb("What the confidence of a token is computed from; the terms are NeMo's")
                .mutable_playing()
                .build(),
            glib::ParamSpecEnum::builder_with_default("confidence-aggregation", default.confidence_aggregation)
                .nick("Confidence Aggregation")
                .blurb("How the confidences of tokens become that of their word")
                .mutable_playing()
                .build(),
            glib::ParamSpecFloat::builder("confidence-alpha")
                .nick("Confidence Alpha")
                .blurb("Exponent of probabilities in entropies and of the highest probability (NeMo's alpha)")
                .minimum(0.01)
                .maximum(10.0)
                .default_value(default.confidence_alpha)
                .mutable_playing()
                .build(),
            glib::ParamSpecFloat::builder("min-confidence")
                .nick("Minimum Confidence")
                .blurb("Words of lower confidence, 0 to 1, are masked or dropped, as low-confidence says; 0: none")
                .minimum(0.0)
                .maximum(1.0)
                .default_value(default.min_confidence)
                .mutable_playing()
                .build(),
            glib::ParamSpecEnum::builder_with_default("low-confidence", default.low_confidence)
                .nick("Low Confidence")
                .blurb("What happens to words below min-confidence")
                .mutable_playing()
                .build(),
        ]
    }

    fn shaping_specs() -> Vec<glib::ParamSpec> {
        let default = Self::default();
        vec![
            glib::ParamSpecBoolean::builder("inverse-text-normalization")
                .nick("Inverse Text Normalization")
                .blurb(
                    "Write numbers in digits: \"twenty one\" as \"21\", in the language of language-code or, if the model reports \
                     it, of the speech (en, da, de, es, fr, it, nl, pt)",
                )
                .default_value(default.inverse_text_normalization)
                .mutable_playing()
                .build(),
            glib::ParamSpecString::builder("replacements-file")
                .nick("Replacements File")
                .blurb(
                    "File with a regular expression, \" => \" and what replaces its matches on each line; lines that begin with # \
                     are ignored. Read when it is set, and when the element starts",
                )
                .mutable_playing()
                .build(),
            glib::ParamSpecString::builder("profanity-file")
                .nick("Profanity File")
                .blurb(
                    "File with a word or phrase that is not to be shown on each line; those after a line such as [en] are of this \
                     language only. Read when it is set, and when the element starts",
                )
                .mutable_playing()
                .build(),
            glib::ParamSpecEnum::builder_with_default("profanity-action", default.profanity_action)
                .nick("Profanity Action")
                .blurb("What happens to words of profanity-file")
                .mutable_playing()
                .build(),
            glib::ParamSpecEnum::builder_with_default("capitalize", default.capitalize)
                .nick("Capitalize")
                .blurb("Which words get a capital, for models that write lower case")
                .mutable_playing()
                .build(),
        ]
    }

    /// Whether a property is one of these.
    pub(in crate::transcriber) fn has(name: &str) -> bool {
        Self::default().get(name).is_some()
    }

    /// Sets the property `name`. The shaping is what it was, until it is [read](Self::read) and [accepted](Self::accept).
    pub(super) fn set(&mut self, name: &str, value: &glib::Value) {
        let path = || read::<Option<String>>(value).filter(|path| !path.is_empty());
        self.revision += 1;
        match name {
            "confidence-method" => self.confidence_method = read(value),
            "confidence-aggregation" => self.confidence_aggregation = read(value),
            "confidence-alpha" => self.confidence_alpha = read(value),
            "min-confidence" => self.min_confidence = read(value),
            "low-confidence" => self.low_confidence = read(value),
            "inverse-text-normalization" => self.inverse_text_normalization = read(value),
            "replacements-file" => self.replacements_file = path(),
            "profanity-file" => self.profanity_file = path(),
            "profanity-action" => self.profanity_action = read(value),
            "capitalize" => self.capitalize = read(value),
            "phrase-hold" => self.phrase_hold = read(value),
            _ => self.partial_stability = read(value),
        }
    }

    /// The value of the property `name`; `None` if it is not one of these.
    pub(super) fn get(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "confidence-method" => self.confidence_method.to_value(),
            "confidence-aggregation" => self.confidence_aggregation.to_value(),
            "confidence-alpha" => self.confidence_alpha.to_value(),
            "min-confidence" => self.min_confidence.to_value(),
            "low-confidence" => self.low_confidence.to_value(),
            "inverse-text-normalization" => self.inverse_text_normalization.to_value(),
            "replacements-file" => self.replacements_file.to_value(),
            "profanity-file" => self.profanity_file.to_value(),
            "profanity-action" => self.profanity_action.to_value(),
            "capitalize" => self.capitalize.to_value(),
            "phrase-hold" => self.phrase_hold.to_value(),
            "partial-stability" => self.partial_stability.to_value(),
            _ => return None,
        })
    }

    /// Whether words may wait for those after them.
    pub(super) fn holds_words(&self) -> bool {
        self.inverse_text_normalization || self.replacements_file.is_some() || self.profanity_file.is_some()
    }

    /// How confidence is computed.
    pub(in crate::transcriber) fn confidence(&self) -> ConfidenceConfig {
        ConfidenceConfig {
            measure: self.confidence_method.into(),
            alpha: self.confidence_alpha,
            aggregation: self.confidence_aggregation.into(),
        }
    }

    /// Reads the files.
    pub(in crate::transcriber) fn read(&self) -> Shaping {
        Shaping {
            revision: self.revision,
            result: self.load().map(Arc::new),
        }
    }

    fn load(&self) -> std::result::Result<TextShaping, String> {
        let replacements = load(
            "replacements-file",
            self.replacements_file.as_deref(),
            Replacements::read,
        )?;
        let profanity = load("profanity-file", self.profanity_file.as_deref(), ProfanityList::read)?;
        Ok(TextShaping {
            min_confidence: (self.min_confidence > 0.0).then(|| ConfidenceFilter {
                min: self.min_confidence,
                action: self.low_confidence.into(),
            }),
            inverse_text_normalization: self.inverse_text_normalization,
            replacements,
            profanity: profanity.map(|list| ProfanityFilter {
                list,
                action: self.profanity_action.into(),
            }),
            capitalize: self.capitalize.into(),
        })
    }

    /// Sets what was read, unless the properties have been set again since.
    pub(in crate::transcriber) fn accept(&mut self, shaping: Shaping) {
        if shaping.revision == self.revision {
            self.shaping = shaping;
        }
    }

    /// What was read last.
    pub(in crate::transcriber) fn shaping(&self) -> &Shaping {
        &self.shaping
    }
}

/// Reads the file of the property `name`, if it is set.
fn load<'a, T>(
    name: &str,
    path: Option<&'a str>,
    read: impl FnOnce(&'a Path) -> Result<T>,
) -> std::result::Result<Option<Arc<T>>, String> {
    let list = path.map(|path| read(Path::new(path)).map(Arc::new)).transpose();
    list.map_err(|error| format!("{name}: {error}"))
}

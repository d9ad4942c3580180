// SPDX-License-Identifier: MIT OR Apache-2.0

//! Options of what is done to words before they are written, and of their confidence.

use std::{path::PathBuf, sync::Arc};

use clap::{Args, builder::PossibleValuesParser};
use gst::prelude::*;
use nemostt::{
    Aggregation, ConfidenceConfig, Measure, Result, Stream, TextShaping,
    text::{
        Capitalize, ConfidenceFilter, LowConfidence, ProfanityAction, ProfanityFilter, ProfanityList, Replacements,
    },
};

use crate::file;

/// What is done to words before they are written.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Text")]
pub struct TextArguments {
    /// Write numbers in digits: "twenty one" as 21
    ///
    /// In the language that the model reports, else that of --language, else English; Danish, Dutch, French, German, Italian,
    /// Portuguese and Spanish are known, too. Isolated numbers below ten stay words.
    #[arg(long)]
    inverse_text_normalization: bool,

    /// Begin sentences with a capital
    #[arg(long, value_name = "WHICH", default_value = "none", value_parser = PossibleValuesParser::new(["none", "sentence"]))]
    capitalize: String,

    /// File with a regular expression, " => " and what replaces its matches on each line
    #[arg(long, value_name = "FILE", value_parser = file())]
    replacements_file: Option<PathBuf>,

    /// File with a word or phrase that is not to be shown on each line; those after a line such as [en] are of this language
    /// only
    #[arg(long, value_name = "FILE", value_parser = file())]
    profanity_file: Option<PathBuf>,

    /// What happens to these words: all letters become asterisks, all but the first, or they are left out
    #[arg(
        long,
        value_name = "ACTION",
        default_value = "mask",
        value_parser = PossibleValuesParser::new(["mask", "mask-tail", "remove"])
    )]
    profanity_action: String,

    /// Do not show words of lower confidence, 0 to 1 [default: show all]
    #[arg(long, value_name = "CONFIDENCE", default_value_t = 0.0, hide_default_value = true, value_parser = confidence)]
    min_confidence: f32,

    /// What happens to these words: […] takes their place, or they are left out
    #[arg(long, value_name = "ACTION", default_value = "mask", value_parser = PossibleValuesParser::new(["mask", "drop"]))]
    low_confidence: String,

    /// What the confidence of a token is computed from; the names are NeMo's
    #[arg(
        long,
        value_name = "METHOD",
        default_value = "probability",
        value_parser = PossibleValuesParser::new([
            "probability", "max-prob", "entropy-gibbs-lin", "entropy-gibbs-exp", "entropy-tsallis-lin", "entropy-tsallis-exp",
            "entropy-renyi-lin", "entropy-renyi-exp",
        ])
    )]
    confidence_method: String,

    /// How the confidences of tokens become that of their word
    #[arg(
        long,
        value_name = "HOW",
        default_value = "geometric-mean",
        value_parser = PossibleValuesParser::new(["geometric-mean", "mean", "min", "max", "product"])
    )]
    confidence_aggregation: String,

    /// Exponent of probabilities in entropies and of the highest probability (NeMo's alpha)
    #[arg(long, value_name = "ALPHA", default_value_t = ConfidenceConfig::DEFAULT_ALPHA, value_parser = alpha)]
    confidence_alpha: f32,
}

fn confidence(text: &str) -> std::result::Result<f32, String> {
    let value = text.parse().ok().filter(|value| (0.0..=1.0).contains(value));
    value.ok_or_else(|| "expected a number from 0 to 1".into())
}

fn alpha(text: &str) -> std::result::Result<f32, String> {
    let value = text.parse().ok().filter(|value| (0.01..=10.0).contains(value));
    value.ok_or_else(|| "expected a number from 0.01 to 10".into())
}

/// What is done to the words of a stream.
#[derive(Debug, Clone)]
pub struct TextOptions {
    shaping: Arc<TextShaping>,
    confidence: ConfidenceConfig,
}

impl TextOptions {
    /// Applies them to `stream`.
    ///
    /// # Errors
    /// Those of [`Stream::set_confidence`].
    pub fn apply(&self, stream: &mut Stream) -> Result<()> {
        stream.set_text_shaping(&self.shaping);
        stream.set_confidence(self.confidence)
    }
}

impl TextArguments {
    /// Reads the files.
    ///
    /// # Errors
    /// If one of them cannot be used.
    pub fn load(&self) -> crate::Result<TextOptions> {
        let replacements = self.replacements_file.as_ref().map(Replacements::read).transpose()?;
        let profanity = self.profanity_file.as_ref().map(ProfanityList::read).transpose()?;
        let shaping = TextShaping {
            min_confidence: (self.min_confidence > 0.0).then(|| ConfidenceFilter {
                min: self.min_confidence,
                action: match self.low_confidence.as_str() {
                    "drop" => LowConfidence::Drop,
                    _ => LowConfidence::Mask,
                },
            }),
            inverse_text_normalization: self.inverse_text_normalization,
            replacements: replacements.map(Arc::new),
            profanity: profanity.map(|list| ProfanityFilter {
                list: Arc::new(list),
                action: match self.profanity_action.as_str() {
                    "mask-tail" => ProfanityAction::MaskTail,
                    "remove" => ProfanityAction::Remove,
                    _ => ProfanityAction::Mask,
                },
            }),
            capitalize: match self.capitalize.as_str() {
                "sentence" => Capitalize::Sentences,
                _ => Capitalize::None,
            },
        };
        Ok(TextOptions {
            shaping: Arc::new(shaping),
            confidence: ConfidenceConfig {
                measure: self.confidence_method.parse::<Measure>()?,
                alpha: self.confidence_alpha,
                aggregation: self.confidence_aggregation.parse::<Aggregation>()?,
            },
        })
    }

    /// Sets the properties of the element `nemostt`, which have the names of the options.
    ///
    /// # Errors
    /// If a file cannot be used.
    pub fn configure(&self, element: &gst::Element) -> crate::Result<()> {
        // The element only warns of files that it cannot use.
        self.load()?;
        for (name, path) in [
            ("replacements-file", &self.replacements_file),
            ("profanity-file", &self.profanity_file),
        ] {
            if let Some(path) = path {
                let utf8 = path.to_str();
                let utf8 = utf8
                    .ok_or_else(|| format!("--{name} {}: expected a path in UTF-8; rename the file", path.display()))?;
                element.set_property(name, utf8);
            }
        }
        for (name, nick) in [
            ("capitalize", &self.capitalize),
            ("profanity-action", &self.profanity_action),
            ("low-confidence", &self.low_confidence),
            ("confidence-method", &self.confidence_method),
            ("confidence-aggregation", &self.confidence_aggregation),
        ] {
            element.set_property_from_str(name, nick);
        }
        element.set_property("inverse-text-normalization", self.inverse_text_normalization);
        element.set_property("min-confidence", self.min_confidence);
        element.set_property("confidence-alpha", self.confidence_alpha);
        Ok(())
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Options of what is done to words before they are written, and of their confidence.

use std::{path::PathBuf, sync::Arc};

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use gst::prelude::*;
use nemostt::{
    Aggregation, ConfidenceConfig, Measure, Named, Result, Stream, TextShaping,
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
    #[arg(long, value_name = "WHICH", default_value = "none", value_parser = named::<Capitalize>())]
    capitalize: Capitalize,

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
        value_parser = named::<ProfanityAction>()
    )]
    profanity_action: ProfanityAction,

    /// Do not show words of lower confidence, 0 to 1 [default: show all]
    #[arg(long, value_name = "CONFIDENCE", default_value_t = 0.0, hide_default_value = true, value_parser = confidence)]
    min_confidence: f32,

    /// What happens to these words: […] takes their place, or they are left out
    #[arg(long, value_name = "ACTION", default_value = "mask", value_parser = named::<LowConfidence>())]
    low_confidence: LowConfidence,

    /// What the confidence of a token is computed from; the names are NeMo's
    #[arg(
        long,
        value_name = "METHOD",
        default_value = "probability",
        value_parser = named::<Measure>()
    )]
    confidence_method: Measure,

    /// How the confidences of tokens become that of their word
    #[arg(
        long,
        value_name = "HOW",
        default_value = "geometric-mean",
        value_parser = named::<Aggregation>()
    )]
    confidence_aggregation: Aggregation,

    /// Exponent of probabilities in entropies and of the highest probability (NeMo's alpha)
    #[arg(long, value_name = "ALPHA", default_value_t = ConfidenceConfig::DEFAULT_ALPHA, value_parser = alpha)]
    confidence_alpha: f32,
}

/// Parses the name of a value.
fn named<T: Named + Send + Sync>() -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(T::names()).try_map(|name| T::from_name(&name).ok_or("unknown"))
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
            min_confidence: (self.min_confidence > 0.0).then_some(ConfidenceFilter {
                min: self.min_confidence,
                action: self.low_confidence,
            }),
            inverse_text_normalization: self.inverse_text_normalization,
            replacements: replacements.map(Arc::new),
            profanity: profanity.map(|list| ProfanityFilter {
                list: Arc::new(list),
                action: self.profanity_action,
            }),
            capitalize: self.capitalize,
        };
        Ok(TextOptions {
            shaping: Arc::new(shaping),
            confidence: ConfidenceConfig {
                measure: self.confidence_method,
                alpha: self.confidence_alpha,
                aggregation: self.confidence_aggregation,
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
            ("capitalize", self.capitalize.name()),
            ("profanity-action", self.profanity_action.name()),
            ("low-confidence", self.low_confidence.name()),
            ("confidence-method", self.confidence_method.name()),
            ("confidence-aggregation", self.confidence_aggregation.name()),
        ] {
            element.set_property_from_str(name, nick);
        }
        element.set_property("inverse-text-normalization", self.inverse_text_normalization);
        element.set_property("min-confidence", self.min_confidence);
        element.set_property("confidence-alpha", self.confidence_alpha);
        Ok(())
    }
}

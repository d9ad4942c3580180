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

const REPLACEMENTS: &str = "replacements-file";
const PROFANITY: &str = "profanity-file";

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
    replacements: ListFile<Arc<Replacements>>,
    profanity: ListFile<Arc<ProfanityList>>,
    profanity_action: NemoSttProfanityAction,
    capitalize: NemoSttCapitalize,
    /// Longest time in milliseconds that a word waits for those after it that may change it.
    pub(super) phrase_hold: u32,
    /// Chunks for which words have stayed before partials show them.
    pub(in crate::transcriber) partial_stability: u32,
    /// What follows from all this.
    shaping: Arc<TextShaping>,
}

/// A file with a list, and what was read from it.
#[derive(Debug, Clone, PartialEq)]
struct ListFile<T> {
    path: Option<String>,
    /// How often the path was set: the file is read each time.
    revision: u64,
    list: Option<T>,
    /// Why the file cannot be used; the list is the one before.
    error: Option<String>,
}

impl<T> Default for ListFile<T> {
    fn default() -> Self {
        Self {
            path: None,
            revision: 0,
            list: None,
            error: None,
        }
    }
}

impl<T> ListFile<T> {
    /// Sets the path. The list is what it was, until the file is read.
    fn set(&mut self, value: &glib::Value) {
        self.path = read::<Option<String>>(value).filter(|path| !path.is_empty());
        self.revision += 1;
    }

    /// Reads the file, which the property `name` names.
    fn read(&self, name: &str, read: impl FnOnce(&Path) -> Result<T>) -> FileContents<T> {
        let list = self.path.as_deref().map(|path| read(Path::new(path)));
        FileContents {
            revision: self.revision,
            list: list.transpose().map_err(|error| format!("{name}: {error}")),
        }
    }

    /// Takes over what was read, unless the path has been set again since.
    fn accept(&mut self, contents: FileContents<T>) {
        if contents.revision != self.revision {
            return;
        }
        match contents.list {
            Ok(list) => (self.list, self.error) = (list, None),
            Err(error) => self.error = Some(error),
        }
    }
}

/// What was read from a file.
struct FileContents<T> {
    /// That of the path.
    revision: u64,
    list: std::result::Result<Option<T>, String>,
}

/// What was read from the files.
pub(in crate::transcriber) struct TextFiles {
    replacements: Option<FileContents<Arc<Replacements>>>,
    profanity: Option<FileContents<Arc<ProfanityList>>>,
}

impl TextFiles {
    /// The first reason for which a file cannot be used.
    pub(in crate::transcriber) fn error(&self) -> Option<String> {
        let replacements = self.replacements.as_ref().and_then(|file| file.list.as_ref().err());
        let profanity = self.profanity.as_ref().and_then(|file| file.list.as_ref().err());
        replacements.or(profanity).cloned()
    }
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
            replacements: ListFile::default(),
            profanity: ListFile::default(),
            profanity_action: NemoSttProfanityAction::default(),
            capitalize: NemoSttCapitalize::default(),
            phrase_hold: 1000,
            partial_stability: 0,
            shaping: Arc::default(),
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
            glib::ParamSpecString::builder(REPLACEMENTS)
                .nick("Replacements File")
                .blurb(
                    "File with a regular expression, \" => \" and what replaces its matches on each line; lines that begin with # \
                     are ignored. Read when it is set, and when the element starts",
                )
                .mutable_playing()
                .build(),
            glib::ParamSpecString::builder(PROFANITY)
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

    /// Sets the property `name`. The lists are what they were, until their files are [read](Self::read) and
    /// [accepted](Self::accept).
    pub(super) fn set(&mut self, name: &str, value: &glib::Value) {
        match name {
            "confidence-method" => self.confidence_method = read(value),
            "confidence-aggregation" => self.confidence_aggregation = read(value),
            "confidence-alpha" => self.confidence_alpha = read(value),
            "min-confidence" => self.min_confidence = read(value),
            "low-confidence" => self.low_confidence = read(value),
            "inverse-text-normalization" => self.inverse_text_normalization = read(value),
            REPLACEMENTS => self.replacements.set(value),
            PROFANITY => self.profanity.set(value),
            "profanity-action" => self.profanity_action = read(value),
            "capitalize" => self.capitalize = read(value),
            "phrase-hold" => self.phrase_hold = read(value),
            _ => self.partial_stability = read(value),
        }
        self.update();
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
            REPLACEMENTS => self.replacements.path.to_value(),
            PROFANITY => self.profanity.path.to_value(),
            "profanity-action" => self.profanity_action.to_value(),
            "capitalize" => self.capitalize.to_value(),
            "phrase-hold" => self.phrase_hold.to_value(),
            "partial-stability" => self.partial_stability.to_value(),
            _ => return None,
        })
    }

    /// Whether words may wait for those after them.
    pub(super) fn holds_words(&self) -> bool {
        self.inverse_text_normalization || self.replacements.path.is_some() || self.profanity.path.is_some()
    }

    /// How confidence is computed.
    pub(in crate::transcriber) fn confidence(&self) -> ConfidenceConfig {
        ConfidenceConfig {
            measure: self.confidence_method.into(),
            alpha: self.confidence_alpha,
            aggregation: self.confidence_aggregation.into(),
        }
    }

    /// Whether the property `name` names a file, which is read when it is set.
    pub(in crate::transcriber) fn is_file(name: &str) -> bool {
        [REPLACEMENTS, PROFANITY].contains(&name)
    }

    /// Reads the file of the property `name`, or both.
    pub(in crate::transcriber) fn read(&self, name: Option<&str>) -> TextFiles {
        let wants = |file| name.is_none_or(|name| name == file);
        TextFiles {
            replacements: wants(REPLACEMENTS).then(|| {
                self.replacements
                    .read(REPLACEMENTS, |path| Replacements::read(path).map(Arc::new))
            }),
            profanity: wants(PROFANITY).then(|| {
                self.profanity
                    .read(PROFANITY, |path| ProfanityList::read(path).map(Arc::new))
            }),
        }
    }

    /// Takes over what was read.
    pub(in crate::transcriber) fn accept(&mut self, files: TextFiles) {
        if let Some(contents) = files.replacements {
            self.replacements.accept(contents);
        }
        if let Some(contents) = files.profanity {
            self.profanity.accept(contents);
        }
        self.update();
    }

    fn update(&mut self) {
        let shaping = TextShaping {
            min_confidence: (self.min_confidence > 0.0).then_some(ConfidenceFilter {
                min: self.min_confidence,
                action: self.low_confidence.into(),
            }),
            inverse_text_normalization: self.inverse_text_normalization,
            replacements: self.replacements.list.clone(),
            profanity: self.profanity.list.clone().map(|list| ProfanityFilter {
                list,
                action: self.profanity_action.into(),
            }),
            capitalize: self.capitalize.into(),
        };
        if *self.shaping != shaping {
            self.shaping = Arc::new(shaping);
        }
    }

    /// What is done to words.
    pub(in crate::transcriber) fn shaping(&self) -> &Arc<TextShaping> {
        &self.shaping
    }

    /// For each file, how often it was set, and why it cannot be used, if so.
    pub(in crate::transcriber) fn file_errors(&self) -> [(u64, Option<&str>); 2] {
        [
            (self.replacements.revision, self.replacements.error.as_deref()),
            (self.profanity.revision, self.profanity.error.as_deref()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_only_when_they_are_set() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("list.txt");
        std::fs::write(&path, "a => b").unwrap();
        let mut settings = TextSettings::default();
        settings.set(REPLACEMENTS, &path.to_str().to_value());
        settings.accept(settings.read(Some(REPLACEMENTS)));
        assert_eq!(settings.shaping().replacements.as_ref().unwrap().len(), 1);
        std::fs::remove_file(&path).unwrap();
        settings.set("min-confidence", &0.5_f32.to_value());
        assert_eq!(settings.shaping().min_confidence.unwrap().min, 0.5);
        assert_eq!(settings.shaping().replacements.as_ref().unwrap().len(), 1);
        assert_eq!(settings.file_errors()[0].1, None);
        // One that cannot be read leaves the list as it was.
        let stale = settings.read(None);
        settings.set(REPLACEMENTS, &path.to_str().to_value());
        settings.accept(stale);
        assert_eq!(settings.file_errors()[0].1, None);
        settings.accept(settings.read(None));
        assert!(
            settings.file_errors()[0]
                .1
                .unwrap()
                .starts_with("replacements-file: cannot read")
        );
        assert!(settings.shaping().replacements.is_some());
        settings.set(REPLACEMENTS, &None::<&str>.to_value());
        settings.accept(settings.read(None));
        assert!(settings.shaping().replacements.is_none());
    }
}

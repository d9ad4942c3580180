// SPDX-License-Identifier: MIT OR Apache-2.0

//! Metadata of a model, from `nemostt.json` and from the graphs.

mod bounds;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::directory::SourceFile;
use crate::{
    error::{Error, Result},
    features::Preprocessor,
};
use nemostt_compiler::{Graph, GraphError};

/// The contents of `nemostt.json`: see docs/export.md.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Sidecar {
    pub(super) preprocessor: Preprocessor,
    /// Lookaheads that the model was trained with, in encoder frames.
    pub(super) lookaheads: Option<Vec<usize>>,
    /// Tokens that are not text.
    pub(super) special: Special,
    /// Languages of a multilingual model.
    pub(super) prompt: Option<Languages>,
    /// NeMo's class name.
    pub(super) class: Option<String>,
    /// Where the checkpoint came from.
    pub(super) source: Option<String>,
    /// The license of the checkpoint.
    pub(super) licence: Option<String>,
}

/// Tokens that are not text.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Special {
    /// `<EOU>`.
    pub(super) end_of_utterance: Option<usize>,
    /// `<EOB>`.
    pub(super) end_of_backchannel: Option<usize>,
}

/// Languages of a multilingual model, and their prompts.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Languages {
    /// Prompt of each language code.
    pub dictionary: BTreeMap<String, i64>,
    /// Prompt for language detection by the model.
    pub auto: Option<i64>,
}

impl Sidecar {
    /// Reads `nemostt.json`; without one, NeMo's defaults are used.
    pub(super) fn read(source: Option<&SourceFile>) -> Result<Self> {
        let Some(source) = source else {
            return Ok(Self::default());
        };
        let bad = |fault| Error::BadModel {
            path: source.name.clone(),
            fault,
        };
        let parse_error = |error: serde_json::Error| bad(GraphError::Settings(error.to_string()));
        let file: Value = serde_json::from_slice(&source.bytes).map_err(parse_error)?;
        bounds::check(&file).map_err(bad)?;
        // From the bytes again, so that messages contain line and column.
        serde_json::from_slice(&source.bytes).map_err(parse_error)
    }

    /// Adds values from the graph's metadata (sherpa-onnx's keys).
    pub(super) fn complete(&mut self, graph: &Graph) -> std::result::Result<(), GraphError> {
        if let Some(kind) = graph.metadata("normalize_type") {
            self.preprocessor.normalize = kind.into();
        }
        if self.class.is_none() {
            self.class = graph.metadata("model_type").map(String::from);
        }
        if self.prompt.is_none()
            && let Some(dictionary) = graph.metadata("prompt_dictionary")
        {
            let parse_error =
                |error| GraphError::Prompt(format!("its metadata prompt_dictionary cannot be read: {error}"));
            let dictionary: BTreeMap<String, i64> = serde_json::from_str(dictionary).map_err(parse_error)?;
            let auto: Option<i64> = graph.metadata("auto_prompt_id").and_then(|id| id.parse().ok());
            bounds::check(&json!({"prompt": {"dictionary": dictionary, "auto": auto}}))?;
            self.prompt = Some(Languages { dictionary, auto });
        }
        Ok(())
    }
}

/// Code for language detection by the model.
const AUTO: &str = "auto";

impl Languages {
    /// The prompt for a language code such as `en-US` or `de`, or for `auto`.
    ///
    /// # Errors
    /// [`Error::Language`].
    pub(crate) fn prompt(&self, language: &str) -> Result<i64> {
        let same = |code: &str| code.eq_ignore_ascii_case(language);
        let is_auto = language.is_empty() || same(AUTO);
        let auto = self.auto.filter(|_| is_auto);
        let exact = || self.find(same);
        // `de` matches the first German one; `de-AT` matches if only `de` is known.
        let primary = |code: &str| code.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
        let wanted = primary(language);
        let related = || {
            self.find(|code| primary(code) == wanted && (code.len() == wanted.len() || language.len() == wanted.len()))
        };
        let number = || {
            language
                .parse()
                .ok()
                .filter(|id| self.dictionary.values().any(|known| known == id))
        };
        auto.or_else(exact)
            .or_else(related)
            .or_else(number)
            .ok_or_else(|| Error::Language {
                requested: language.into(),
                allowed: self.codes(),
            })
    }

    /// The initial prompt: language detection, else the first language.
    pub(crate) fn default_prompt(&self) -> i64 {
        self.auto.or(self.dictionary.values().min().copied()).unwrap_or(0)
    }

    /// All language codes; `auto` first if the model supports it.
    pub fn codes(&self) -> Vec<String> {
        let auto = self.auto.map(|_| AUTO.to_owned());
        let named = self.dictionary.keys().filter(|code| *code != AUTO);
        auto.into_iter().chain(named.cloned()).collect()
    }

    /// The lowest prompt of the matching languages.
    fn find(&self, fits: impl Fn(&str) -> bool) -> Option<i64> {
        let fitting = self.dictionary.iter().filter(|(code, _)| fits(code));
        fitting.map(|(_, &prompt)| prompt).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn languages() -> Languages {
        let dictionary = [("en-US", 0), ("en-GB", 1), ("de-DE", 6), ("fr", 9), ("auto", 101)];
        Languages {
            dictionary: dictionary.map(|(code, prompt)| (code.into(), prompt)).into(),
            auto: Some(101),
        }
    }

    #[test]
    fn language_codes_find_their_prompt() {
        for (code, prompt) in [
            ("en-US", 0),
            ("EN-us", 0),
            ("en-GB", 1),
            ("en", 0),
            ("de", 6),
            ("fr-CA", 9),
            ("auto", 101),
            ("", 101),
            ("6", 6),
        ] {
            assert_eq!(languages().prompt(code).ok(), Some(prompt), "{code}");
        }
        for code in ["de-AT", "it", "102", "x"] {
            let error = languages().prompt(code).unwrap_err().to_string();
            assert!(error.contains(code) && error.contains("auto, de-DE, en-GB"), "{error}");
        }
    }

    #[test]
    fn first_language_is_the_default_without_auto() {
        let mut languages = languages();
        languages.auto = None;
        languages.dictionary.remove("auto");
        assert_eq!(languages.default_prompt(), 0);
        assert!(languages.prompt("auto").is_err());
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The published models with a short name.
//!
//! `catalog.json` was compiled from public sources: names of repositories and files, and commits, sizes and SHA-256 where they
//! are known. None of the models could be downloaded in our environment.

use serde::{Deserialize, Serialize};

const CATALOG: &str = include_str!("catalog.json");
/// Minimum similarity of suggested names.
const MIN_SIMILARITY: f64 = 0.75;
const SUGGESTIONS: usize = 3;

/// A published model.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    pub name: String,
    /// `OWNER/REPO` on the hub.
    pub repository: String,
    /// The commit of the listed files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Folder of the files in the repository.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub folder: String,
    pub format: Format,
    pub precision: String,
    /// NVIDIA's checkpoint with the weights.
    pub weights: String,
    /// ISO 639 codes, or `multilingual`.
    pub languages: Vec<String>,
    /// In milliseconds.
    pub lookaheads: Vec<u32>,
    pub decoders: Vec<String>,
    /// Whether it writes punctuation and capitals.
    pub punctuation: bool,
    pub licence: String,
    pub files: Vec<File>,
}

/// One of its files.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// The format of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    SherpaOnnx,
    ParakeetRs,
    /// A checkpoint, which must be exported before use.
    Nemo,
}

impl Model {
    /// Total size in bytes, unless a file's size is unknown.
    pub fn size(&self) -> Option<u64> {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// All models of the catalog.
pub fn models() -> Result<Vec<Model>, serde_json::Error> {
    serde_json::from_str(CATALOG)
}

/// The names most similar to an unknown one, best first.
pub fn nearest(models: &[Model], name: &str) -> Vec<String> {
    let name = name.to_lowercase();
    let similarity = |model: &Model| {
        let repository = model.repository.rsplit('/').next().unwrap_or_default().to_lowercase();
        let by_name = strsim::jaro_winkler(&model.name, &name);
        // A part of a name, or the name of the repository or checkpoint, is a strong match.
        let part = model.name.contains(&name) || repository == name || model.weights.to_lowercase() == name;
        if part { by_name.max(0.9) } else { by_name }
    };
    let mut found: Vec<(f64, &Model)> = models.iter().map(|model| (similarity(model), model)).collect();
    found.retain(|(similarity, _)| *similarity >= MIN_SIMILARITY);
    found.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    found
        .iter()
        .take(SUGGESTIONS)
        .map(|(_, model)| model.name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn is_hex(text: &str, length: usize) -> bool {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }

    #[test]
    fn every_entry_is_valid() {
        let models = models().unwrap();
        let names: BTreeSet<&str> = models.iter().map(|model| model.name.as_str()).collect();
        assert_eq!(names.len(), models.len(), "a name is not unique");
        for model in &models {
            let name = &model.name;
            assert!(
                name.bytes()
                    .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')),
                "{name}"
            );
            assert_eq!(model.repository.split('/').count(), 2, "{name}");
            assert!(
                model.revision.as_ref().is_none_or(|commit| is_hex(commit, 40)),
                "{name}"
            );
            assert!(
                !model.languages.is_empty() && !model.licence.is_empty() && !model.weights.is_empty(),
                "{name}"
            );
            assert!(!model.lookaheads.is_empty(), "{name}");
            assert!(model.lookaheads.iter().all(|lookahead| lookahead % 80 == 0), "{name}");
            assert!(
                model
                    .decoders
                    .iter()
                    .all(|decoder| ["rnnt", "ctc"].contains(&decoder.as_str())),
                "{name}"
            );
            for file in &model.files {
                assert!(!file.name.contains('/'), "{name}");
                assert!(
                    file.sha256.as_ref().is_none_or(|sha256| is_hex(sha256, 64)),
                    "{name}: {}",
                    file.name
                );
            }
        }
    }

    #[test]
    fn files_match_the_format() {
        for model in models().unwrap() {
            let has = |ending: &str| model.files.iter().any(|file| file.name.ends_with(ending));
            let vocabulary = ["tokens.txt", "tokenizer.model", "tokenizer.json"]
                .iter()
                .any(|name| has(name));
            match model.format {
                Format::Nemo => assert!(has(".nemo") && model.files.len() == 1, "{}", model.name),
                Format::SherpaOnnx | Format::ParakeetRs => assert!(has(".onnx") && vocabulary, "{}", model.name),
            }
            assert_eq!(has(".int8.onnx"), model.precision == "int8", "{}", model.name);
        }
    }

    #[test]
    fn names_nearly_right_are_recognized() {
        let models = models().unwrap();
        for (typed, meant) in [
            ("nemotron-en-480-int8", "nemotron-en-480ms-int8"),
            ("fastconfromer-large-80ms", "fastconformer-large-80ms"),
            (
                "stt_en_fastconformer_hybrid_large_streaming_multi",
                "fastconformer-large-multi-nemo",
            ),
            ("EOU-120", "eou-120m"),
        ] {
            assert!(
                nearest(&models, typed).contains(&meant.into()),
                "{typed}: {:?}",
                nearest(&models, typed)
            );
        }
        assert!(
            nearest(&models, "whisper").is_empty(),
            "{:?}",
            nearest(&models, "whisper")
        );
    }
}

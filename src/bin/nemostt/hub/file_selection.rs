// SPDX-License-Identifier: MIT OR Apache-2.0

//! Selects the files of a model from those of a repository.

use std::collections::{BTreeMap, BTreeSet};

use clap::ValueEnum;

use super::{
    error::{Error, Result},
    model_ref::{ModelRef, is_invalid_name},
};

/// Files other than graphs that this or other programs read.
const SIDECARS: [&str; 9] = [
    "tokens.txt",
    "vocab.txt",
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "nemostt.json",
    "config.json",
    "genai_config.json",
    "languages.json",
];
/// Prefixes of license files, which are downloaded with the weights.
const LICENSES: [&str; 3] = ["LICENSE", "LICENCE", "NOTICE"];
const GRAPH: &str = ".onnx";
const CHECKPOINT: &str = ".nemo";

/// Precision of the weights, according to the names of graphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Precision {
    /// 32-bit floating point, as trained
    Fp32,
    /// 16-bit floating point
    Fp16,
    /// 8-bit integers
    Int8,
}

impl Precision {
    fn of(graph: &str) -> Self {
        let has = |mark: &str| {
            [".", "-", "_"]
                .iter()
                .any(|dot| graph.contains(&format!("{dot}{mark}.")))
        };
        match () {
            () if has("int8") => Self::Int8,
            () if has("fp16") => Self::Fp16,
            () => Self::Fp32,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
        }
    }
}

/// Selects the model's files from all paths of a repository, and returns their names within the folder.
pub fn choose(model_ref: &ModelRef, paths: &[String], precision: Option<Precision>) -> Result<Vec<String>> {
    let names: Vec<&str> = paths
        .iter()
        .filter_map(|path| in_folder(path, &model_ref.folder))
        .collect();
    let graphs: Vec<&str> = names.iter().copied().filter(|name| name.ends_with(GRAPH)).collect();
    let repository = model_ref.path("");
    let repository = format!("{}/{repository}", model_ref.repository)
        .trim_end_matches('/')
        .to_owned();
    if graphs.is_empty() {
        let checkpoints: Vec<String> = names
            .iter()
            .filter(|name| name.ends_with(CHECKPOINT))
            .map(|&name| name.into())
            .collect();
        return match checkpoints.len() {
            0 => Err(Error::NothingToFetch {
                repository,
                folders: folders_with_models(paths),
            }),
            1 => Ok(checkpoints),
            _ => Err(Error::SeveralCheckpoints {
                repository,
                names: checkpoints,
            }),
        };
    }
    let chosen = of_precision(&graphs, precision).ok_or_else(|| {
        let found: BTreeSet<Precision> = graphs.iter().map(|graph| Precision::of(graph)).collect();
        Error::NoPrecision {
            repository,
            model_ref: precision.map_or("", Precision::name),
            found: found.into_iter().map(|found| found.name().into()).collect(),
        }
    })?;
    let belongs = |name: &&str| {
        chosen.contains(name)
            || SIDECARS.contains(name)
            || LICENSES
                .iter()
                .any(|prefix| name.to_ascii_uppercase().starts_with(prefix))
            || weights_of(name, &graphs).is_some_and(|graph| chosen.contains(&graph))
    };
    Ok(names.into_iter().filter(belongs).map(str::to_owned).collect())
}

/// The name of a file that is directly in a folder.
fn in_folder<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    let name = match folder {
        "" => path,
        folder => path.strip_prefix(folder)?.strip_prefix('/')?,
    };
    (!is_invalid_name(name)).then_some(name)
}

/// One graph for each part of the model: in the requested precision, or else in the highest. `None` if no part has the requested
/// one.
fn of_precision<'a>(graphs: &[&'a str], model_ref: Option<Precision>) -> Option<BTreeSet<&'a str>> {
    let mut parts: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for &graph in graphs {
        parts.entry(part(graph)).or_default().push(graph);
    }
    let chosen: BTreeSet<&str> = parts
        .values()
        .filter_map(|same| {
            same.iter()
                .copied()
                .min_by_key(|graph| (Some(Precision::of(graph)) != model_ref, Precision::of(graph)))
        })
        .collect();
    let found = model_ref.is_none_or(|model_ref| chosen.iter().any(|graph| Precision::of(graph) == model_ref));
    found.then_some(chosen)
}

/// The name of a graph without its precision: `encoder` for `encoder.int8.onnx`.
fn part(graph: &str) -> String {
    let name = graph.trim_end_matches(GRAPH);
    let mark = Precision::of(graph).name();
    name.strip_suffix(mark)
        .map_or(name, |name| name.trim_end_matches(['.', '-', '_']))
        .into()
}

/// The graph whose weights are in a file: `encoder.onnx.data`, `encoder.onnx_data`, `encoder.data`, `encoder.weights`.
fn weights_of<'a>(name: &str, graphs: &[&'a str]) -> Option<&'a str> {
    let holds = |graph: &&&str| {
        let rest = name.strip_prefix(graph.trim_end_matches(GRAPH));
        rest.is_some_and(|rest| {
            [".onnx.data", ".onnx_data", ".data", ".weights"].contains(&rest) || rest.starts_with(".onnx_data_")
        })
    };
    graphs.iter().filter(holds).max_by_key(|graph| graph.len()).copied()
}

fn folders_with_models(paths: &[String]) -> Vec<String> {
    let models = paths
        .iter()
        .filter(|path| path.ends_with(GRAPH) || path.ends_with(CHECKPOINT));
    let folders: BTreeSet<&str> = models
        .filter_map(|path| path.rsplit_once('/'))
        .map(|(folder, _)| folder)
        .collect();
    folders.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model_ref(folder: &str) -> ModelRef {
        ModelRef {
            repository: "a/b".into(),
            folder: folder.into(),
            revision: "main".into(),
            known: None,
        }
    }

    fn chosen(folder: &str, paths: &[&str], precision: Option<Precision>) -> Result<Vec<String>> {
        let paths: Vec<String> = paths.iter().map(|&path| path.into()).collect();
        choose(&model_ref(folder), &paths, precision)
    }

    #[test]
    fn recordings_and_readmes_are_skipped() {
        let paths = [
            ".gitattributes",
            "README.md",
            "encoder.onnx",
            "decoder.onnx",
            "joiner.onnx",
            "tokens.txt",
            "LICENSE.txt",
            "test_wavs/0.wav",
        ];
        assert_eq!(
            chosen("", &paths, None).unwrap(),
            [
                "encoder.onnx",
                "decoder.onnx",
                "joiner.onnx",
                "tokens.txt",
                "LICENSE.txt"
            ]
        );
    }

    #[test]
    fn one_precision_is_taken_with_its_weights() {
        let paths = [
            "encoder.onnx",
            "encoder.onnx.data",
            "encoder.int8.onnx",
            "encoder.int8.onnx.data",
            "decoder.onnx",
            "joiner.int8.onnx",
            "tokens.txt",
        ];
        assert_eq!(
            chosen("", &paths, None).unwrap(),
            [
                "encoder.onnx",
                "encoder.onnx.data",
                "decoder.onnx",
                "joiner.int8.onnx",
                "tokens.txt"
            ]
        );
        assert_eq!(
            chosen("", &paths, Some(Precision::Int8)).unwrap(),
            [
                "encoder.int8.onnx",
                "encoder.int8.onnx.data",
                "decoder.onnx",
                "joiner.int8.onnx",
                "tokens.txt"
            ]
        );
        let message = chosen("", &paths, Some(Precision::Fp16)).unwrap_err().to_string();
        assert!(message.contains("no fp16 graphs, only fp32, int8"), "{message}");
    }

    #[test]
    fn all_names_of_weight_files_are_recognized() {
        let paths = [
            "encoder.onnx",
            "encoder.data",
            "model.onnx",
            "model.onnx_data",
            "model.onnx_data_1",
            "decoder.onnx",
            "decoder.weights",
            "other.data",
            "vocab.txt",
        ];
        let without = paths
            .iter()
            .copied()
            .filter(|&path| path != "other.data")
            .collect::<Vec<_>>();
        assert_eq!(chosen("", &paths, None).unwrap(), without);
    }

    #[test]
    fn each_folder_is_a_model() {
        let paths = [
            "one/encoder.onnx",
            "one/tokens.txt",
            "one/more/encoder.onnx",
            "two/model.nemo",
            "README.md",
        ];
        assert_eq!(chosen("one", &paths, None).unwrap(), ["encoder.onnx", "tokens.txt"]);
        assert_eq!(chosen("two", &paths, None).unwrap(), ["model.nemo"]);
        let message = chosen("", &paths, None).unwrap_err().to_string();
        assert!(message.contains("one, one/more, two"), "{message}");
        assert!(matches!(chosen("on", &paths, None), Err(Error::NothingToFetch { .. })));
    }

    #[test]
    fn one_checkpoint_is_selected_several_are_an_error() {
        assert_eq!(chosen("", &["a.nemo", "README.md"], None).unwrap(), ["a.nemo"]);
        assert!(matches!(
            chosen("", &["a.nemo", "b.nemo"], None),
            Err(Error::SeveralCheckpoints { .. })
        ));
    }

    #[test]
    fn names_with_separators_are_ignored() {
        assert_eq!(
            chosen("", &["model.onnx", "..\\x.onnx", "tokens.txt"], None).unwrap(),
            ["model.onnx", "tokens.txt"]
        );
    }
}

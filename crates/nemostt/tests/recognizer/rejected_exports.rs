// SPDX-License-Identifier: MIT OR Apache-2.0

//! Unsupported exports are rejected with the reason and a fix: real graphs with each fault. Faults that are an edit of
//! a graph are tested in `import/tests.rs` of nemostt-compiler.

use std::{fs, path::Path};

use crate::common::data;
use nemostt::{Error, GraphError, Options, Recognizer};

fn load_error(path: &Path) -> Error {
    let options = Options {
        threads: 1,
        ..Default::default()
    };
    match Recognizer::load(path, &options) {
        Err(error) => error,
        Ok(_) => panic!("{} was accepted", path.display()),
    }
}

fn fault(error: &Error) -> &GraphError {
    match error {
        Error::BadModel { fault, .. } => fault,
        other => panic!("{other}"),
    }
}

/// Asserts that the error is one line that contains `words`: what is wrong and how to fix it.
fn assert_contains(error: &Error, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "\"{word}\" is missing: {text}");
    }
    assert_eq!(text.lines().count(), 1, "{text}");
}

/// A copy of the model in `layouts/nemo`, to be modified.
fn copy_model() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for file in ["encoder-model.onnx", "decoder_joint-model.onnx", "tokens.txt"] {
        fs::copy(data("layouts/nemo").join(file), directory.path().join(file)).unwrap();
    }
    directory
}

fn error_with_encoder(bytes: &[u8]) -> Error {
    let directory = copy_model();
    fs::write(directory.path().join("encoder-model.onnx"), bytes).unwrap();
    load_error(directory.path())
}

#[test]
fn exports_without_caches() {
    let directory = copy_model();
    fs::copy(
        data("exports/encoder-without-caches.onnx"),
        directory.path().join("encoder-model.onnx"),
    )
    .unwrap();
    let error = load_error(directory.path());
    assert!(matches!(error, Error::MissingCaches { .. }));
    assert_contains(
        &error,
        &[
            "set_export_config({'cache_support': True})",
            "repeats one token forever",
        ],
    );
}

#[test]
fn offline_models() {
    // It has no caches either, which is reported first.
    assert_contains(&load_error(&data("faults/offline")), &["cache_support"]);

    let directory = copy_model();
    let sidecar = fs::read(data("faults/offline/nemostt.json")).unwrap();
    fs::write(directory.path().join("nemostt.json"), sidecar).unwrap();
    let error = load_error(directory.path());
    assert!(matches!(fault(&error), GraphError::OfflineFeatures { normalize } if normalize == "per_feature"));
    assert_contains(
        &error,
        &["per_feature", "offline model", "Take a cache-aware streaming one"],
    );
}

#[test]
fn full_context_attention() {
    let error = load_error(&data("faults/full_context"));
    assert_eq!(fault(&error), &GraphError::FullContext);
    assert_contains(&error, &["whole recording", "chunked_limited"]);
}

#[test]
fn unsupported_attention_style() {
    let error = load_error(&data("faults/with_rc"));
    assert!(matches!(fault(&error), GraphError::Attention { .. }));
    assert_contains(
        &error,
        &[
            "chunked_limited_with_rc",
            "take a model with rel_pos and chunked_limited",
        ],
    );
}

#[test]
fn lookahead_that_splits_chunks() {
    let error = load_error(&data("faults/lookahead3"));
    assert_eq!(fault(&error), &GraphError::SplitChunks { left: 70, chunk: 4 });
    assert_contains(&error, &["halves the lookahead", "left % (R + 1) == 0"]);
}

#[test]
fn tdt_joint() {
    let error = load_error(&data("faults/tdt"));
    assert!(
        matches!(fault(&error), GraphError::OtherHead { extra: 5, .. }),
        "{error}"
    );
    assert_contains(&error, &["token-and-duration", "5 more", "RNN-T and CTC"]);
}

#[test]
fn multitalker_models() {
    let error = load_error(&data("faults/multitalker"));
    assert!(matches!(fault(&error), GraphError::Multitalker { .. }));
    assert_contains(&error, &["spk_targets", "diarization", "one speaker"]);
}

#[test]
fn vocabulary_of_another_model() {
    let directory = copy_model();
    let tokens = fs::read_to_string(data("layouts/nemo/tokens.txt")).unwrap();
    let shorter: Vec<&str> = tokens.lines().take(100).collect();
    fs::write(directory.path().join("tokens.txt"), shorter.join("\n")).unwrap();
    let error = load_error(directory.path());
    assert!(matches!(error, Error::Vocabulary { .. }));
    assert_contains(&error, &["100 tokens", "the model has 128", "another model"]);
}

#[test]
fn decoder_of_another_model() {
    let directory = copy_model();
    fs::copy(
        data("tiny_random/decoder_joint-rnnt_la13.onnx"),
        directory.path().join("decoder_joint-model.onnx"),
    )
    .unwrap();
    let error = load_error(directory.path());
    assert!(matches!(
        fault(&error),
        GraphError::OtherModel {
            takes: 64,
            gives: 48,
            ..
        }
    ));
    assert_contains(&error, &["another model", "Take all files from one export"]);
}

#[test]
fn files_that_are_not_graphs() {
    let mut tar = vec![0; 1024];
    tar[257..262].copy_from_slice(b"ustar");
    let mut tensors = b"\x20\x00\x00\x00\x00\x00\x00\x00{\"__metadata__\"".to_vec();
    tensors.resize(1024, b' ');
    for (bytes, words) in [
        (&tar[..], [".nemo", "tools/export_nemo.py"]),
        (b"PK\x03\x04 and so on", ["PyTorch", "tools/export_nemo.py"]),
        (&tensors, ["safetensors", "tools/export_nemo.py"]),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            ["Git LFS pointer", "git lfs pull"],
        ),
        (b"<!DOCTYPE html><html>", ["web page", "fetch the file itself"]),
        (b"", ["empty", "download or export it again"]),
        (
            b"Not a graph at all.",
            ["not an ONNX file", "download or export it again"],
        ),
    ] {
        assert_contains(&error_with_encoder(bytes), &words);
    }
    let whole = fs::read(data("layouts/nemo/encoder-model.onnx")).unwrap();
    assert_contains(&error_with_encoder(&whole[..whole.len() / 2]), &["truncated", "again"]);
}

#[test]
fn missing_encoder() {
    // A directory with only a prediction network and a joint.
    let directory = tempfile::tempdir().unwrap();
    for file in ["decoder.onnx", "joiner.onnx", "tokens.txt"] {
        fs::copy(data("layouts/sherpa").join(file), directory.path().join(file)).unwrap();
    }
    let error = load_error(directory.path());
    assert!(matches!(error, Error::NoModel { missing: "encoder", .. }));
    assert_contains(&error, &["holds no encoder", "sherpa-onnx"]);
}

#[test]
fn missing_external_data() {
    let directory = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(data("layouts/external")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap() != "encoder-model.onnx.data" {
            fs::copy(&path, directory.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let error = load_error(directory.path());
    assert!(matches!(fault(&error), GraphError::ExternalData { .. }));
    assert_contains(&error, &["encoder-model.onnx.data", "beside it"]);
}

#[test]
fn precisions_side_by_side_are_not_ambiguous() {
    let directory = copy_model();
    for file in ["encoder.int8.onnx", "decoder.int8.onnx", "joiner.int8.onnx"] {
        fs::copy(data("layouts/sherpa_int8").join(file), directory.path().join(file)).unwrap();
    }
    for (file, to) in [
        ("encoder-model.onnx", "encoder.onnx"),
        ("decoder_joint-model.onnx", "decoder.onnx"),
    ] {
        fs::rename(directory.path().join(file), directory.path().join(to)).unwrap();
    }
    let precision = |path: &Path| {
        Recognizer::load(path, &Options::default())
            .unwrap()
            .config()
            .precision
            .name()
    };
    assert_eq!(precision(directory.path()), "fp32");
    assert_eq!(precision(&directory.path().join("encoder.int8.onnx")), "int8");
}

#[test]
fn nan_weights() {
    let directory = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(data("layouts/external")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, directory.path().join(path.file_name().unwrap())).unwrap();
    }
    let weights = directory.path().join("encoder-model.onnx.data");
    let mut bytes = fs::read(&weights).unwrap();
    let middle = bytes.len() / 8 * 4;
    bytes[middle..middle + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&weights, bytes).unwrap();
    let error = load_error(directory.path());
    assert!(matches!(error, Error::NotANumber { .. }), "{error}");
    assert_contains(&error, &["NaN", "Export it again in fp32"]);
}

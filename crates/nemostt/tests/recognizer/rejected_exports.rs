// SPDX-License-Identifier: MIT OR Apache-2.0

//! Every wrong export says why, and what to do: real graphs that have the fault. Faults that are an edit of a graph are
//! tested in `src/graph/import_tests.rs`.

use std::{fs, path::Path};

use crate::common::data;
use nemostt::{Error, GraphError, Options, Recognizer};

fn refused(path: &Path) -> Error {
    let options = Options {
        threads: 1,
        ..Default::default()
    };
    match Recognizer::load(path, &options) {
        Err(error) => error,
        Ok(_) => panic!("{} must be refused", path.display()),
    }
}

fn fault(error: &Error) -> &GraphError {
    match error {
        Error::BadModel { fault, .. } => fault,
        other => panic!("{other}"),
    }
}

/// The sentence must hold what is wrong and what to do.
fn says(error: &Error, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "\"{word}\" is missing: {text}");
    }
    assert_eq!(text.lines().count(), 1, "{text}");
}

/// A copy of the model in `layouts/nemo`, to be spoilt.
fn copy() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for file in ["encoder-model.onnx", "decoder_joint-model.onnx", "tokens.txt"] {
        fs::copy(data("layouts/nemo").join(file), directory.path().join(file)).unwrap();
    }
    directory
}

fn in_place_of_the_encoder(bytes: &[u8]) -> Error {
    let directory = copy();
    fs::write(directory.path().join("encoder-model.onnx"), bytes).unwrap();
    refused(directory.path())
}

#[test]
fn exports_without_caches() {
    let directory = copy();
    fs::copy(
        data("exports/encoder-without-caches.onnx"),
        directory.path().join("encoder-model.onnx"),
    )
    .unwrap();
    let error = refused(directory.path());
    assert!(matches!(error, Error::MissingCaches { .. }));
    says(
        &error,
        &[
            "set_export_config({'cache_support': True})",
            "repeats one token for ever",
        ],
    );
}

#[test]
fn offline_models() {
    // No caches either, and that comes first.
    says(&refused(&data("faults/offline")), &["cache_support"]);

    let directory = copy();
    let sidecar = fs::read(data("faults/offline/nemostt.json")).unwrap();
    fs::write(directory.path().join("nemostt.json"), sidecar).unwrap();
    let error = refused(directory.path());
    assert!(matches!(fault(&error), GraphError::OfflineFeatures { normalize } if normalize == "per_feature"));
    says(
        &error,
        &["per_feature", "offline model", "Take a cache-aware streaming one"],
    );
}

#[test]
fn attention_over_everything() {
    let error = refused(&data("faults/full_context"));
    assert_eq!(fault(&error), &GraphError::FullContext);
    says(&error, &["whole recording", "chunked_limited"]);
}

#[test]
fn attention_of_another_kind() {
    let error = refused(&data("faults/with_rc"));
    assert!(matches!(fault(&error), GraphError::Attention { .. }));
    says(
        &error,
        &[
            "chunked_limited_with_rc",
            "take a model with rel_pos and chunked_limited",
        ],
    );
}

#[test]
fn chunks_that_the_mask_splits() {
    let error = refused(&data("faults/lookahead3"));
    assert_eq!(fault(&error), &GraphError::SplitChunks { left: 70, chunk: 4 });
    says(&error, &["halves the lookahead", "left % (R + 1) == 0"]);
}

#[test]
fn heads_of_another_kind() {
    let error = refused(&data("faults/tdt"));
    assert!(
        matches!(fault(&error), GraphError::OtherHead { extra: 5, .. }),
        "{error}"
    );
    says(&error, &["token-and-duration", "5 more", "RNN-T and CTC"]);
}

#[test]
fn models_that_want_to_know_who_speaks() {
    let error = refused(&data("faults/multitalker"));
    assert!(matches!(fault(&error), GraphError::Multitalker { .. }));
    says(&error, &["spk_targets", "diarisation", "one speaker"]);
}

#[test]
fn vocabularies_of_another_model() {
    let directory = copy();
    let tokens = fs::read_to_string(data("layouts/nemo/tokens.txt")).unwrap();
    let shorter: Vec<&str> = tokens.lines().take(100).collect();
    fs::write(directory.path().join("tokens.txt"), shorter.join("\n")).unwrap();
    let error = refused(directory.path());
    assert!(matches!(error, Error::Vocabulary { .. }));
    says(&error, &["100 labels", "the model has 128", "another model"]);
}

#[test]
fn decoders_of_another_model() {
    let directory = copy();
    fs::copy(
        data("tiny_random/decoder_joint-rnnt_la13.onnx"),
        directory.path().join("decoder_joint-model.onnx"),
    )
    .unwrap();
    let error = refused(directory.path());
    assert!(matches!(
        fault(&error),
        GraphError::OtherModel {
            takes: 64,
            gives: 48,
            ..
        }
    ));
    says(&error, &["another model", "Take all files from one export"]);
}

#[test]
fn files_that_are_no_graphs() {
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
        says(&in_place_of_the_encoder(bytes), &words);
    }
    let whole = fs::read(data("layouts/nemo/encoder-model.onnx")).unwrap();
    says(
        &in_place_of_the_encoder(&whole[..whole.len() / 2]),
        &["truncated", "again"],
    );
}

#[test]
fn graphs_of_something_else() {
    // Only a prediction network and a joint.
    let directory = tempfile::tempdir().unwrap();
    for file in ["decoder.onnx", "joiner.onnx", "tokens.txt"] {
        fs::copy(data("layouts/sherpa").join(file), directory.path().join(file)).unwrap();
    }
    let error = refused(directory.path());
    assert!(matches!(error, Error::NoModel { missing: "encoder", .. }));
    says(&error, &["holds no encoder", "sherpa-onnx"]);
}

#[test]
fn weights_that_are_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(data("layouts/external")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap() != "encoder-model.onnx.data" {
            fs::copy(&path, directory.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let error = refused(directory.path());
    assert!(matches!(fault(&error), GraphError::ExternalData { .. }));
    says(&error, &["encoder-model.onnx.data", "beside it"]);
}

#[test]
fn precisions_side_by_side_are_no_ambiguity() {
    let directory = copy();
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
fn weights_that_are_no_numbers() {
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
    let error = refused(directory.path());
    assert!(matches!(error, Error::NotANumber { .. }), "{error}");
    says(&error, &["NaN", "Export it again in fp32"]);
}

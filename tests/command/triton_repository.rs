// SPDX-License-Identifier: MIT OR Apache-2.0

//! `nemostt triton-repository`. `make triton` shows that a server understands what it writes.

use std::fs;

use crate::{
    common::{data, model_path},
    support::process::{complaint, nemostt, written},
};

#[test]
fn a_model_is_written_once() {
    let directory = tempfile::tempdir().unwrap();
    let (model, out) = (model_path("tiny_random"), directory.path().join("new/models"));
    let mut command = nemostt(&["triton-repository", model.to_str().unwrap(), out.to_str().unwrap()]);
    command.args(["--lookahead", "480", "--decoder", "ctc", "--cpu"]);
    // Nothing of it runs.
    command.env("ORT_DYLIB_PATH", "/nonexistent");
    let output = command.output().unwrap();
    let name = "tiny_random-480ms-ctc";
    let path = out.join(name);
    assert_eq!(written(&output), format!("{}\n", path.display()));
    let config = fs::read_to_string(path.join("config.pbtxt")).unwrap();
    assert!(
        config.contains(&format!("name: \"{name}\"")) && config.contains("KIND_CPU"),
        "{config}"
    );
    let readme = fs::read_to_string(path.join("README.md")).unwrap();
    for word in [name, "docker run --rm -p", "lookahead=480", "| caches of a stream | 0."] {
        assert!(readme.contains(word), "\"{word}\" is missing:\n{readme}");
    }
    assert!(path.join("1/model.onnx").metadata().unwrap().len() > 100_000);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1);

    let output = command.output().unwrap();
    assert_eq!(
        complaint(&output),
        format!(
            "{} exists already: remove it, or choose another name with --name",
            path.display()
        )
    );
    command.args(["--name", "other"]);
    assert!(written(&command.output().unwrap()).ends_with("/other\n"));
}

#[test]
fn what_cannot_be_served_is_refused_with_the_cure() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("models");
    let refused = |model: &std::path::Path, arguments: &[&str]| {
        let mut command = nemostt(&["triton-repository", model.to_str().unwrap(), out.to_str().unwrap()]);
        complaint(&command.args(arguments).output().unwrap()).to_owned()
    };
    let int8 = refused(&data("layouts/sherpa_int8"), &[]);
    assert!(
        int8.contains("cannot run on an inference server: its int8 weights quantize activations with one scale"),
        "{int8}"
    );
    assert!(int8.contains("tools/export_nemo.py in fp32 or fp16"), "{int8}");
    let tiny = model_path("tiny_random");
    assert!(refused(&tiny, &["--lookahead", "90"]).contains("it allows 0 ms, 80 ms"));
    assert!(refused(&tiny, &["--name", "a/b"]).starts_with("--name \"a/b\": expected"));
    assert!(refused(&tiny, &["--batch", "8", "--streams", "4"]).contains("pass --batch 4"));
    let long = "n".repeat(256);
    assert!(refused(&tiny, &["--name", &long]).contains("has 256 characters"));
    assert!(!out.exists());
    fs::write(&out, "").unwrap();
    assert_eq!(
        refused(&tiny, &[]),
        format!(
            "{} is a file, but a model repository is a directory: name another one, or remove the file",
            out.display()
        )
    );
}

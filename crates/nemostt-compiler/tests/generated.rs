// SPDX-License-Identifier: MIT OR Apache-2.0

//! `src/onnx/proto.rs` is generated from `src/onnx/onnx.proto` by prost. It is checked in, so that a build needs no
//! protobuf compiler. `NEMOSTT_REGENERATE=1 cargo test -p nemostt-compiler --test generated` regenerates it.

#![allow(clippy::unwrap_used)] // a failed unwrap is how a test fails

use std::{fs, path::Path};

#[test]
fn proto_rs_matches_onnx_proto() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/onnx");
    let output = tempfile::tempdir().unwrap();
    // Byte fields become `bytes::Bytes`, so that decoding a file shares its weights instead of copying them.
    prost_build::Config::new()
        .bytes(["."])
        .disable_comments(["."])
        .out_dir(output.path())
        .compile_fds(protox::compile(["onnx.proto"], [&sources]).unwrap())
        .unwrap();
    let generated = fs::read_to_string(output.path().join("onnx.rs")).unwrap();
    let checked_in = sources.join("proto.rs");
    if std::env::var_os("NEMOSTT_REGENERATE").is_some() {
        fs::write(&checked_in, &generated).unwrap();
    }
    assert!(
        generated == fs::read_to_string(&checked_in).unwrap(),
        "{} is out of date: run this with NEMOSTT_REGENERATE=1",
        checked_in.display()
    );
}

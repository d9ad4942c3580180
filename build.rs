// SPDX-License-Identifier: MIT OR Apache-2.0

//! Build script: version strings for the plugin, the ONNX protobuf classes, and the code hash in the keys of the cache.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    gst_plugin_version_helper::info();

    // The ONNX protobuf classes. `protox` is a protobuf compiler in Rust: no `protoc` to install.
    // Byte fields become `bytes::Bytes`, so that decoding a file shares its weights instead of copying them.
    println!("cargo:rerun-if-changed=src/graph/onnx.proto");
    let descriptors = protox::compile(["onnx.proto"], ["src/graph"])?;
    prost_build::Config::new()
        .bytes(["."])
        .disable_comments(["."])
        .compile_fds(descriptors)?;
    println!("cargo:rustc-env=NEMOSTT_REWRITES={:016x}", hash_of_rewrites()?);
    Ok(())
}

/// A hash of the code that rewrites and packs encoders, so that cache entries written by other versions of it are not
/// used.
fn hash_of_rewrites() -> std::io::Result<u64> {
    let mut hasher = DefaultHasher::new();
    for directory in ["src/graph", "src/kernels", "src/model"] {
        println!("cargo:rerun-if-changed={directory}");
        hash_directory(Path::new(directory), &mut hasher)?;
    }
    Ok(hasher.finish())
}

fn hash_directory(directory: &Path, hasher: &mut impl Hasher) -> std::io::Result<()> {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            hash_directory(&path, hasher)?;
        } else {
            path.hash(hasher);
            fs::read(&path)?.hash(hasher);
        }
    }
    Ok(())
}

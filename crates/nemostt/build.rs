// SPDX-License-Identifier: MIT OR Apache-2.0

//! Hashes the code that compiles graphs, so that cache entries written by a different version of it are not used.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
};

fn main() -> std::io::Result<()> {
    println!("cargo:rustc-env=NEMOSTT_COMPILER_HASH={:016x}", compiler_hash()?);
    Ok(())
}

/// A hash of the sources that rewrite and pack graphs. In the repository these include other crates. A published
/// package has only its own sources. There the versions of the other crates, also part of the key, are enough.
fn compiler_hash() -> std::io::Result<u64> {
    let mut hasher = DefaultHasher::new();
    for directory in ["src/model", "../nemostt-compiler/src", "../nemostt-kernels/src"] {
        if Path::new(directory).is_dir() {
            println!("cargo:rerun-if-changed={directory}");
            hash_directory(Path::new(directory), &mut hasher)?;
        }
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

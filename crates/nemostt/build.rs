// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tells apart the code that compiles graphs, so that entries that other code left in the cache are not used.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
};

fn main() -> std::io::Result<()> {
    println!("cargo:rustc-env=NEMOSTT_COMPILER_HASH={:016x}", compiler_hash()?);
    Ok(())
}

/// A hash of the sources that decide what a graph becomes before it runs. In the repository these are other crates' too; as a
/// published package this crate stands alone, and the versions of the others, which the key has as well, say it all.
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

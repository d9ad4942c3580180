// SPDX-License-Identifier: MIT OR Apache-2.0

//! A disk cache of compiled encoders: rewritten, prepacked and, if requested, quantized.
//!
//! An entry is named after a hash of its inputs ([`key`]), so a model that was moved is found and one that was changed
//! is not. It contains the graph that is passed to ONNX Runtime, not one that ONNX Runtime optimized: so a cached
//! encoder runs exactly as an uncached one, and nothing depends on how ONNX Runtime serializes graphs
//! (`docs/performance-design.md`). On a cache hit, the model's file is only hashed, not kept in memory
//! ([`nemostt_compiler::lazy_load`]).
//!
//! A directory or an entry that another user could have written is not used ([`trust`]), and entries are validated as
//! models are.
//!
//! No failure is fatal: if the cache cannot be read or written, this is logged, and the encoder is compiled.

mod eviction;
mod format;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzzing;
mod key;
mod parallel_io;
mod trust;

use std::{io, path::PathBuf};

use eviction::CacheDir;
use format::EntryWriter;
pub(super) use parallel_io::{hash_of_bytes, hash_of_file};
use tempfile::NamedTempFile;

use super::{
    compile::CompiledEncoder,
    directory::LazyWeights,
    options::{GraphOptimization, Options},
    runtime::{LogLevel, log},
    target::Target,
};
use crate::error::Error;
use nemostt_compiler::{Graph, Precision};

/// Minimum size of a model's files for a cache entry; `None` if there is no cache.
pub(super) fn min_model_size(options: &Options) -> Option<u64> {
    let is_compiled = options.graph_optimization == GraphOptimization::All;
    CacheDir::of(&options.cache.directory, options.cache.size).filter(|_| is_compiled)?;
    Some(options.cache.smallest)
}

/// The cache entry of one encoder, which may not exist yet.
pub(super) struct CacheEntry {
    /// Name of the model, for the log.
    name: String,
    directory: CacheDir,
    key_inputs: String,
    key: String,
}

impl CacheEntry {
    /// The entry of the encoder in the files of `unread`, whose graph without weights is `graph`. `None` if there is no
    /// cache, or reading it would save nothing.
    pub(super) fn of(
        name: &str,
        graph: &Graph,
        unread: &LazyWeights,
        lookahead: usize,
        target: &Target,
    ) -> Option<Self> {
        let is_compiled = target.passes.int8.is_some() || target.passes.custom_ops;
        if graph.precision() != Precision::Fp32 || !is_compiled {
            return None;
        }
        let directory = CacheDir::of(&target.cache.directory, target.cache.size)?;
        if let Err(error) = directory.check() {
            let line = format!("{name} does not use the cache: {error}");
            log(LogLevel::Warning, &line);
            return None;
        }
        let hashes: io::Result<Vec<_>> = unread
            .files
            .iter()
            .map(|path| parallel_io::hash_of_file(path))
            .collect();
        match hashes {
            Ok(hashes) => {
                let key_inputs = key::key_inputs(lookahead, target.passes);
                Some(Self {
                    name: name.into(),
                    directory,
                    key: key::key(&hashes, &key_inputs),
                    key_inputs,
                })
            }
            Err(error) => {
                log(LogLevel::Info, &format!("{name} is not read from the cache: {error}"));
                None
            }
        }
    }

    /// Reads the compiled encoder for windows of `width` mel frames.
    pub(super) fn read(&self, width: usize) -> Option<CompiledEncoder> {
        let path = self.path();
        match format::read(&path, &self.key, width) {
            Ok((compiled, file)) => {
                self.directory.touch(&file);
                self.log(&format!("was read from the cache: {}", path.display()));
                Some(compiled)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                use io::ErrorKind::{FileTooLarge, InvalidData, InvalidInput, UnexpectedEof};
                let is_corrupt = matches!(error.kind(), InvalidData | InvalidInput | FileTooLarge | UnexpectedEof);
                self.log_failure(&error, is_corrupt);
                None
            }
        }
    }

    /// Whether this is still the entry of `graph`.
    pub(super) fn is_of(&self, graph: &Graph) -> bool {
        let hashes: Vec<_> = graph
            .files()
            .iter()
            .map(|file| parallel_io::hash_of_bytes(file))
            .collect();
        key::key(&hashes, &self.key_inputs) == self.key
    }

    /// Writes `compiled` to a temporary file, which becomes an entry when it is [committed](PendingEntry::commit).
    pub(super) fn write(&self, compiled: &CompiledEncoder) -> Option<PendingEntry> {
        let write = || {
            let entry = EntryWriter::new(&self.key, compiled)?;
            let Some(mut file) = self.directory.temp_file(entry.length())? else {
                return Ok(None);
            };
            entry.write(file.as_file_mut())?;
            Ok::<_, io::Error>(Some(PendingEntry {
                file,
                path: self.path(),
            }))
        };
        write().unwrap_or_else(|error| {
            self.log(&format!("is not cached as {}: {error}", self.path().display()));
            None
        })
    }

    /// Removes an entry that was read but does not run.
    pub(super) fn discard(&self, error: &Error) {
        self.log_failure(error, true);
    }

    fn log_failure(&self, error: &dyn std::fmt::Display, is_corrupt: bool) {
        let path = self.path();
        self.log(&format!(
            "is compiled again, {} cannot be used: {error}",
            path.display()
        ));
        if is_corrupt {
            // If removal fails, the next start logs the same again.
            let _ = std::fs::remove_file(path);
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.entry(&self.key)
    }

    fn log(&self, what: &str) {
        log(LogLevel::Info, &format!("{} {what}", self.name));
    }
}

/// An entry that was written to a temporary file.
pub(super) struct PendingEntry {
    file: NamedTempFile,
    path: PathBuf,
}

impl PendingEntry {
    /// Renames it, once it is known to run.
    pub(super) fn commit(self) {
        let path = self.path.display();
        if let Err(error) = self.file.persist(&self.path) {
            log(LogLevel::Info, &format!("{path} is not cached: {error}"));
        }
    }
}

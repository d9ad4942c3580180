// SPDX-License-Identifier: MIT OR Apache-2.0

//! Encoders that were prepared before, in files: rewritten, packed in the order in which they are read, made int8.
//!
//! An entry is named by what it was made of ([`key`]), so a model that was moved finds it and one that was changed does not.
//! It holds the graph as ONNX Runtime gets it, not as ONNX Runtime optimises it: a second start then runs what the first one
//! ran, and nothing depends on how that writes graphs (`docs/performance.md`). With an entry the model's own file is hashed,
//! but not kept in memory ([`nemostt_compiler::lazy_load`]).
//!
//! A directory or an entry that another user may have written to is not used ([`trust`]), and what is read is checked as a model
//! is.
//!
//! Nothing here fails: what cannot be read or written is a line in the log, and the encoder is prepared as without a cache.

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
use tempfile::NamedTempFile;

use super::{
    compile::CompiledEncoder,
    custom_op_policy::use_custom_ops,
    directory::LazyWeights,
    options::{Device, GraphOptimization, Options, PrecisionChoice},
    runtime::{LogLevel, device_of, log},
};
use crate::error::{Error, Result};
use nemostt_compiler::{Graph, Precision};

/// Bytes of the files from which on a model may be worth an entry; `None` where there is no cache.
pub(super) fn min_model_size(options: &Options) -> Option<u64> {
    let may_be = options.graph_optimization == GraphOptimization::All;
    CacheDir::of(&options.cache.directory, options.cache.size).filter(|_| may_be)?;
    Some(options.cache.smallest)
}

/// The place of one encoder in the cache.
pub(super) struct CacheEntry {
    /// Of the model, for the log.
    name: String,
    directory: CacheDir,
    key_inputs: String,
    key: String,
}

impl CacheEntry {
    /// The place of the encoder in the files of `unread`, whose graph is `graph` but for its weights; `None` where there is no
    /// cache, or what it saves is less than reading it takes.
    ///
    /// # Errors
    /// ONNX Runtime is missing, or the device.
    pub(super) fn of(
        name: &str,
        graph: &Graph,
        unread: &LazyWeights,
        lookahead: usize,
        options: &Options,
    ) -> Result<Option<Self>> {
        let made_int8 = options.precision == PrecisionChoice::Int8 && device_of(options)? == Device::Cpu;
        if graph.precision() != Precision::Fp32 || !(made_int8 || use_custom_ops(options)?) {
            return Ok(None);
        }
        let Some(directory) = CacheDir::of(&options.cache.directory, options.cache.size) else {
            return Ok(None);
        };
        if let Err(error) = directory.check() {
            let line = format!("{name} is not looked for in the cache, nor kept there: {error}");
            log(LogLevel::Warning, &line);
            return Ok(None);
        }
        let hashes: io::Result<Vec<_>> = unread
            .files
            .iter()
            .map(|path| parallel_io::hash_of_file(path))
            .collect();
        Ok(match hashes {
            Ok(hashes) => {
                let key_inputs = key::key_inputs(lookahead, options);
                Some(Self {
                    name: name.into(),
                    directory,
                    key: key::key(&hashes, &key_inputs),
                    key_inputs,
                })
            }
            Err(error) => {
                log(
                    LogLevel::Info,
                    &format!("{name} is not looked for in the cache: {error}"),
                );
                None
            }
        })
    }

    /// What was prepared before, for windows of `width` mel frames.
    pub(super) fn read(&self, width: usize) -> Option<CompiledEncoder> {
        let path = self.path();
        match format::read(&path, &self.key, width) {
            Ok((prepared, file)) => {
                self.directory.touch(&file);
                self.log(&format!("was prepared before, as {}", path.display()));
                Some(prepared)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                use io::ErrorKind::{FileTooLarge, InvalidData, InvalidInput, UnexpectedEof};
                let is_damaged = matches!(error.kind(), InvalidData | InvalidInput | FileTooLarge | UnexpectedEof);
                self.fails(&error, is_damaged);
                None
            }
        }
    }

    /// Whether `graph` is still the one that this is the place of.
    pub(super) fn is_of(&self, graph: &Graph) -> bool {
        let hashes: Vec<_> = graph
            .files()
            .iter()
            .map(|file| parallel_io::hash_of_bytes(file))
            .collect();
        key::key(&hashes, &self.key_inputs) == self.key
    }

    /// Writes `prepared`, which nobody finds until it is [published](PendingEntry::commit).
    pub(super) fn write(&self, prepared: &CompiledEncoder) -> Option<PendingEntry> {
        let written = || {
            let entry = EntryWriter::new(&self.key, prepared)?;
            let Some(mut part) = self.directory.temp_file(entry.length())? else {
                return Ok(None);
            };
            entry.write(part.as_file_mut())?;
            Ok::<_, io::Error>(Some(PendingEntry {
                part,
                path: self.path(),
            }))
        };
        written().unwrap_or_else(|error| {
            self.log(&format!("is not kept as {}: {error}", self.path().display()));
            None
        })
    }

    /// What was read does not run: it goes.
    pub(super) fn discard(&self, error: &Error) {
        self.fails(error, true);
    }

    fn fails(&self, error: &dyn std::fmt::Display, is_damaged: bool) {
        let path = self.path();
        self.log(&format!("is prepared anew, {} cannot be used: {error}", path.display()));
        if is_damaged {
            // Where that is not allowed, the next start says so again.
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

/// An entry that was written under another name.
pub(super) struct PendingEntry {
    part: NamedTempFile,
    path: PathBuf,
}

impl PendingEntry {
    /// Gives it its name: it was seen to run.
    pub(super) fn commit(self) {
        let path = self.path.display();
        if let Err(error) = self.part.persist(&self.path) {
            log(LogLevel::Info, &format!("{path} is not kept: {error}"));
        }
    }
}

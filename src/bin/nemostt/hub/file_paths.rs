// SPDX-License-Identifier: MIT OR Apache-2.0

//! Paths of a file: complete, incomplete, and its lock.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{
    api::RemoteFile,
    error::{Error, Result},
    print_status,
};

/// The paths of one file, on one file system.
#[derive(Debug)]
pub struct FilePaths {
    /// The complete file.
    pub file: PathBuf,
    /// The incomplete file.
    pub partial: PathBuf,
    /// Locked by the process that writes.
    pub lock: PathBuf,
}

impl FilePaths {
    /// In a directory instead of the cache, with the names that `huggingface_hub` uses there.
    pub fn in_directory(directory: &Path, remote: &RemoteFile) -> Self {
        let metadata = directory.join(".cache/huggingface/download");
        Self {
            file: directory.join(&remote.name),
            partial: metadata.join(format!("{}.{}.incomplete", remote.name, remote.etag)),
            lock: metadata.join(format!("{}.lock", remote.name)),
        }
    }

    /// Whether the file exists with the right length.
    pub fn exists(&self, remote: &RemoteFile) -> bool {
        fs::metadata(&self.file).is_ok_and(|found| found.is_file() && found.len() == remote.size)
    }

    /// Whether it exists with the right checksum.
    pub fn is_verified(&self, remote: &RemoteFile) -> bool {
        let Some(checksum) = &remote.checksum else {
            return self.exists(remote);
        };
        let sum = || -> io::Result<String> {
            let mut counter = checksum.counter(remote.size);
            let mut file = File::open(&self.file)?;
            let mut bytes = vec![0; 1 << 20];
            loop {
                match file.read(&mut bytes)? {
                    0 => return Ok(counter.finish()),
                    read => counter.update(&bytes[..read]),
                }
            }
        };
        self.exists(remote) && sum().is_ok_and(|sum| sum == checksum.as_str())
    }

    /// Bytes still to be downloaded.
    pub fn missing(&self, remote: &RemoteFile) -> u64 {
        let here = fs::metadata(&self.partial).map_or(0, |found| found.len());
        remote.size.saturating_sub(here)
    }

    /// Waits until no other process writes this file. The lock is released when the returned handle is closed, also by a crash.
    pub fn lock(&self) -> Result<File> {
        for path in [&self.file, &self.partial, &self.lock] {
            if let Some(directory) = path.parent() {
                fs::create_dir_all(directory).map_err(|error| Error::write(directory, error))?;
            }
        }
        let failed = |error| Error::write(&self.lock, error);
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.lock)
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                print_status(format_args!(
                    "{} is being downloaded by another process: waiting",
                    self.file.display()
                ));
                lock.lock().map_err(failed)?;
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        Ok(lock)
    }
}

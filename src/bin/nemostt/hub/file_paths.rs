// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where a file goes, under which name while it is not complete, and who may write it.

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

/// The paths of one file. All three are on one file system.
#[derive(Debug)]
pub struct FilePaths {
    /// Its own name: whoever sees it there sees all of it.
    pub file: PathBuf,
    /// Its name while bytes are missing.
    pub partial: PathBuf,
    /// Held by the one process that writes.
    pub lock: PathBuf,
}

impl FilePaths {
    /// In a directory of the user's own. The other names are those that `huggingface_hub` has there.
    pub fn in_directory(directory: &Path, remote: &RemoteFile) -> Self {
        let beside = directory.join(".cache/huggingface/download");
        Self {
            file: directory.join(&remote.name),
            partial: beside.join(format!("{}.{}.incomplete", remote.name, remote.etag)),
            lock: beside.join(format!("{}.lock", remote.name)),
        }
    }

    /// Whether the file is there, by its length.
    pub fn is_there(&self, remote: &RemoteFile) -> bool {
        fs::metadata(&self.file).is_ok_and(|found| found.is_file() && found.len() == remote.size)
    }

    /// Whether it is there with the right bytes.
    pub fn is_right(&self, remote: &RemoteFile) -> bool {
        let Some(checksum) = &remote.checksum else {
            return self.is_there(remote);
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
        self.is_there(remote) && sum().is_ok_and(|sum| sum == checksum.as_str())
    }

    /// Bytes still to come.
    pub fn missing(&self, remote: &RemoteFile) -> u64 {
        let here = fs::metadata(&self.partial).map_or(0, |found| found.len());
        remote.size.saturating_sub(here)
    }

    /// Waits until no other process writes this file. The lock ends with the returned handle, however the process ends.
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
                    "{} is being fetched by another process: waiting for it",
                    self.file.display()
                ));
                lock.lock().map_err(failed)?;
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        Ok(lock)
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! An incomplete file.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
};

use super::{
    api::RemoteFile,
    checksum::Counter,
    error::{Error, Result},
    file_paths::FilePaths,
};

/// Computes its checksum while it grows, and is renamed when it is complete and verified.
#[derive(Debug)]
pub struct Partial<'a> {
    remote: &'a RemoteFile,
    paths: &'a FilePaths,
    file: File,
    length: u64,
    counter: Option<Counter>,
}

impl<'a> Partial<'a> {
    /// Opens the incomplete file of an earlier process, or creates it.
    pub fn open(remote: &'a RemoteFile, paths: &'a FilePaths) -> Result<Self> {
        let mut options = File::options();
        let opened = options
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&paths.partial);
        let file = opened.map_err(|error| Error::write(&paths.partial, error))?;
        let counter = remote.checksum.as_ref().map(|checksum| checksum.counter(remote.size));
        let mut partial = Self {
            remote,
            paths,
            file,
            length: 0,
            counter,
        };
        partial.hash_existing()?;
        Ok(partial)
    }

    /// Bytes received so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn is_complete(&self) -> bool {
        self.length == self.remote.size
    }

    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|error| Error::write(&self.paths.partial, error))?;
        self.length += bytes.len() as u64;
        if let Some(counter) = &mut self.counter {
            counter.update(bytes);
        }
        Ok(())
    }

    /// Discards its contents.
    pub fn restart(&mut self) -> Result<()> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(|error| Error::write(&self.paths.partial, error))?;
        self.length = 0;
        self.counter = self
            .remote
            .checksum
            .as_ref()
            .map(|checksum| checksum.counter(self.remote.size));
        Ok(())
    }

    /// Deletes it.
    pub fn remove(self) {
        // If this fails, the checksum fails again next time.
        let _ = fs::remove_file(&self.paths.partial);
    }

    /// Renames it to its final name if its checksum is right.
    pub fn finish(mut self) -> Result<()> {
        if let (Some(counter), Some(checksum)) = (self.counter.take(), &self.remote.checksum) {
            let found = counter.finish();
            if found != checksum.as_str() {
                let error = Error::WrongChecksum {
                    file: self.remote.name.clone(),
                    found,
                    expected: checksum.as_str().into(),
                };
                self.remove();
                return Err(error);
            }
        }
        // Sync before the rename: after a power failure, the final name must not have incomplete contents.
        self.file
            .sync_all()
            .map_err(|error| Error::write(&self.paths.partial, error))?;
        fs::rename(&self.paths.partial, &self.paths.file).map_err(|error| Error::write(&self.paths.file, error))
    }

    /// Computes the checksum of the existing bytes.
    fn hash_existing(&mut self) -> Result<()> {
        let failed = |error| Error::read(&self.paths.partial, error);
        if self.file.metadata().map_err(failed)?.len() > self.remote.size {
            return self.restart();
        }
        let mut bytes = vec![0; 1 << 20];
        loop {
            let read = self.file.read(&mut bytes).map_err(failed)?;
            if read == 0 {
                return Ok(());
            }
            self.length += read as u64;
            if let Some(counter) = &mut self.counter {
                counter.update(&bytes[..read]);
            }
        }
    }
}

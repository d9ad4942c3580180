// SPDX-License-Identifier: MIT OR Apache-2.0

//! The cache directory of one repository, in the layout of the Python package `huggingface_hub`.
//!
//! ```text
//! models--OWNER--REPO/blobs/ETAG                the contents; ETAG.incomplete while incomplete
//! models--OWNER--REPO/snapshots/COMMIT/PATH     link to the contents
//! models--OWNER--REPO/refs/BRANCH               contains the commit
//! .locks/models--OWNER--REPO/ETAG.lock
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    api::RemoteFile,
    checksum::is_hex,
    env::HubEnv,
    error::{Error, Result},
    file_paths::FilePaths,
    file_selection::{self, Precision},
    model_ref::ModelRef,
};

/// The cache of one repository.
#[derive(Debug)]
pub struct Cache {
    repository: PathBuf,
    locks: PathBuf,
}

/// A model in a directory.
#[derive(Debug)]
pub struct Found {
    pub directory: PathBuf,
    /// Names of its files.
    pub names: Vec<String>,
}

impl Cache {
    pub fn new(settings: &HubEnv, repository: &str) -> Self {
        let name = format!("models--{}", repository.replace('/', "--"));
        Self {
            repository: settings.cache.join(&name),
            locks: settings.cache.join(".locks").join(&name),
        }
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.repository
    }

    /// The paths of a file.
    pub fn paths(&self, remote: &RemoteFile) -> FilePaths {
        let blobs = self.repository.join("blobs");
        FilePaths {
            file: blobs.join(&remote.etag),
            partial: blobs.join(format!("{}.incomplete", remote.etag)),
            lock: self.locks.join(format!("{}.lock", remote.etag)),
        }
    }

    /// A model, if it is completely in the cache.
    pub fn find(&self, model_ref: &ModelRef, precision: Option<Precision>) -> Option<Found> {
        let snapshot = self
            .repository
            .join("snapshots")
            .join(self.commit(&model_ref.revision)?);
        let directory = if model_ref.folder.is_empty() {
            snapshot
        } else {
            snapshot.join(&model_ref.folder)
        };
        let names = match &model_ref.known {
            Some(model) => model.files.iter().map(|file| file.name.clone()).collect(),
            None => {
                let entries = fs::read_dir(&directory).ok()?;
                let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
                let paths: Vec<String> = names.map(|name| model_ref.path(&name)).collect();
                file_selection::choose(model_ref, &paths, precision).ok()?
            }
        };
        // False for a link whose target was deleted.
        let all = names.iter().all(|name| directory.join(name).is_file());
        all.then_some(Found { directory, names })
    }

    /// Links downloaded files into the directory of their commit, and records the commit of the branch.
    pub fn link(&self, model_ref: &ModelRef, files: &[(RemoteFile, FilePaths)]) -> Result<Found> {
        let commit = files
            .first()
            .map_or(model_ref.revision.as_str(), |(remote, _)| remote.commit.as_str());
        let snapshot = self.repository.join("snapshots").join(commit);
        let directory = if model_ref.folder.is_empty() {
            snapshot
        } else {
            snapshot.join(&model_ref.folder)
        };
        fs::create_dir_all(&directory).map_err(|error| Error::write(&directory, error))?;
        // Up from folder and commit to `blobs`.
        let depth = 2 + model_ref.folder.split('/').filter(|part| !part.is_empty()).count();
        let blobs = PathBuf::from("../".repeat(depth)).join("blobs");
        for (remote, paths) in files {
            let pointer = directory.join(&remote.name);
            let linked = replace(&pointer, |path| symlink(&blobs.join(&remote.etag), &paths.file, path));
            linked.map_err(|error| Error::write(&pointer, error))?;
        }
        if model_ref.revision != commit {
            let branch = self.repository.join("refs").join(&model_ref.revision);
            let noted = fs::create_dir_all(branch.parent().unwrap_or(&branch))
                .and_then(|()| replace(&branch, |path| fs::write(path, commit)));
            noted.map_err(|error| Error::write(&branch, error))?;
        }
        let names = files.iter().map(|(remote, _)| remote.name.clone()).collect();
        Ok(Found { directory, names })
    }

    /// The last known commit of a revision.
    fn commit(&self, revision: &str) -> Option<String> {
        if is_hex(revision, 40) {
            return Some(revision.into());
        }
        let commit = fs::read_to_string(self.repository.join("refs").join(revision)).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| is_hex(commit, 40))
    }
}

/// Creates or replaces a file atomically, by renaming a temporary one.
fn replace(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    make(&new).and_then(|()| fs::rename(&new, path)).inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })
}

/// A symbolic link, or else a hard link or a copy.
fn symlink(relative: &Path, bytes: &Path, path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if std::os::unix::fs::symlink(relative, path).is_ok() {
        return Ok(());
    }
    #[cfg(not(unix))]
    let _ = relative;
    fs::hard_link(bytes, path).or_else(|_| fs::copy(bytes, path).map(drop))
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The directory with playlists and segments, and the names of its files.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::output_file::{self, unwritable};

/// The multivariant playlist, which players open.
pub const MULTIVARIANT: &str = "master.m3u8";
pub const MEDIA: &str = "media.m3u8";
pub const CAPTIONS: &str = "captions.m3u8";

/// A directory that no other process writes.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

impl Directory {
    /// Creates `path` if needed, and removes what an earlier session left in it. Other files stay, such as a page with a player.
    ///
    /// # Errors
    /// One line, if it cannot be written, or is written by another process.
    pub fn open(path: &Path) -> Result<Self, String> {
        let failed = |error: io::Error| unwritable(path, &error);
        fs::create_dir_all(path).map_err(failed)?;
        let lock = File::open(path).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(format!(
                    "{} is being written by another process: give --hls another directory",
                    path.display()
                ));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // Detects a directory that is read-only.
        output_file::check(&path.join(MULTIVARIANT)).map_err(failed)?;
        for entry in fs::read_dir(path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_str().is_some_and(is_ours) {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        Ok(Self {
            path: path.canonicalize().map_err(failed)?,
            _lock: lock,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file of this name.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file, which appears when it is complete.
    ///
    /// # Errors
    /// One line.
    pub fn store(&self, name: &str, contents: impl AsRef<[u8]>) -> Result<(), String> {
        let path = self.file(name);
        output_file::store(&path, contents.as_ref()).map_err(|error| unwritable(&path, &error))
    }

    /// The same with all that `contents` gives.
    ///
    /// # Errors
    /// One line.
    pub fn store_from(&self, name: &str, contents: &mut impl Read) -> Result<(), String> {
        let path = self.file(name);
        output_file::store_from(&path, contents).map_err(|error| unwritable(&path, &error))
    }

    /// Removes a file. One that is gone already, or cannot be removed, does no harm.
    pub fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.file(name));
    }
}

/// The file of the captions of segment `number`.
pub fn captions_name(number: u64) -> String {
    format!("captions-{number:05}.vtt")
}

/// The template of `hlssink3` for files of the media of a connection. Numbers are replaced as by `printf`.
///
/// # Errors
/// One line, if the path is not text.
pub fn media_template(directory: &Path, connection: u32) -> Result<String, String> {
    match directory.to_str() {
        Some(path) => Ok(format!("{}/media-{connection}-%05d.ts", path.replace('%', "%%"))),
        None => Err(format!(
            "the name of {} is not UTF-8: give --hls another directory",
            directory.display()
        )),
    }
}

/// Whether a file of this name may be of an earlier session.
fn is_ours(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let inside = |start, end| name.strip_prefix(start)?.strip_suffix(end);
    [MULTIVARIANT, MEDIA, CAPTIONS].contains(&name)
        || inside("captions-", ".vtt").is_some_and(is_number)
        || inside("media-", ".ts").is_some_and(|middle: &str| middle.split('-').all(is_number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_an_earlier_session_are_removed_and_others_stay() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("new/100%");
        let directory = Directory::open(&path).unwrap();
        let error = Directory::open(&path).unwrap_err();
        assert!(error.contains("by another process"), "{error}");
        for name in [
            MULTIVARIANT,
            MEDIA,
            CAPTIONS,
            &captions_name(3),
            "media-0-00007.ts",
            "media-0-00008-1.ts",
        ] {
            directory.store(name, "old").unwrap();
        }
        let others = ["index.html", "media-talk.ts", "captions-.vtt", "media-0-00007.ts.bak"];
        for name in others {
            directory.store(name, "other").unwrap();
        }
        drop(directory);
        let directory = Directory::open(&path).unwrap();
        let mut left: Vec<String> = fs::read_dir(&path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let mut others = others.map(String::from);
        others.sort();
        assert_eq!(left, others);
        let template = media_template(directory.path(), 2).unwrap();
        assert!(template.ends_with("/new/100%%/media-2-%05d.ts"), "{template}");
    }
}

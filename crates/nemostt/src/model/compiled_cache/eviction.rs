// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where entries are stored, and which ones are evicted when the cache is full.

use std::{
    env,
    ffi::OsString,
    fs::{self, DirBuilder, File, Metadata},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tempfile::NamedTempFile;

use super::trust;
use crate::model::{
    options::CacheDirectory,
    runtime::{LogLevel, log},
};

/// Default maximum size of all entries, unless [`SIZE_VARIABLE`] is set: six encoders of 0.6 G parameters in int8, nine
/// of 114 M in float32.
const DEFAULT_MAX_BYTES: u64 = 4 << 30;
/// Maximum size of all entries in megabytes.
const SIZE_VARIABLE: &str = "NEMOSTT_CACHE_SIZE";
/// Suffix of entries. Their names are hashes in hexadecimal.
const ENTRY_SUFFIX: &str = ".graph";
const DIGITS: usize = 2 * blake3::OUT_LEN;
/// Prefix and suffix of files that are being written.
const TEMP_PREFIX: &str = "nemostt-";
const TEMP_SUFFIX: &str = ".part";
/// A temporary file that is this old was left by a process that died.
const STALE_AFTER: Duration = Duration::from_secs(3600);

/// A directory of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CacheDir {
    path: PathBuf,
    /// Maximum size of all entries in bytes.
    size: u64,
}

impl CacheDir {
    /// The requested directory; `None` if there should be none, or there is no place for one.
    pub(super) fn of(requested: &CacheDirectory, size: Option<u64>) -> Option<Self> {
        let path = match requested {
            CacheDirectory::Off => return None,
            CacheDirectory::At(path) => path.clone(),
            CacheDirectory::Standard => default_path(|name| env::var_os(name), env::home_dir())?,
        };
        let size = size.unwrap_or_else(|| size_of(env::var(SIZE_VARIABLE).ok().as_deref()));
        Some(Self { path, size })
    }

    /// The file of the entry called `key`.
    pub(super) fn entry(&self, key: &str) -> PathBuf {
        self.path.join(format!("{key}{ENTRY_SUFFIX}"))
    }

    /// Rejects a directory that others could have written to. A missing one is created when the first entry is written.
    pub(super) fn check(&self) -> io::Result<()> {
        match fs::metadata(&self.path) {
            Ok(metadata) if metadata.is_dir() => trust::check(&metadata)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))),
            _ => Ok(()),
        }
    }

    /// A temporary file for an entry of `bytes` bytes; `None` if it would not fit.
    pub(super) fn temp_file(&self, bytes: u64) -> io::Result<Option<NamedTempFile>> {
        if bytes > self.size {
            return Ok(None);
        }
        create_private(&self.path)?;
        self.evict(self.size - bytes);
        let part = tempfile::Builder::new()
            .prefix(TEMP_PREFIX)
            .suffix(TEMP_SUFFIX)
            .tempfile_in(&self.path)?;
        Ok(Some(part))
    }

    /// Marks an entry as used. If that is not permitted, it is evicted sooner.
    pub(super) fn touch(&self, entry: &File) {
        let _ = entry.set_modified(SystemTime::now());
    }

    /// Removes least recently used entries until the rest has at most `size` bytes, and stale temporary files. Other
    /// processes may do the same concurrently; an entry that was read does not need its file any more.
    fn evict(&self, size: u64) {
        let Ok(files) = fs::read_dir(&self.path) else { return };
        let mut entries = Vec::new();
        for file in files.flatten() {
            let name = file.file_name();
            let Some(metadata) = file.metadata().ok().filter(Metadata::is_file) else {
                continue;
            };
            let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            if is_entry(&name) {
                entries.push((modified, metadata.len(), file.path()));
            } else if is_temp_file(&name) && modified.elapsed().is_ok_and(|age| age > STALE_AFTER) {
                let _ = fs::remove_file(file.path());
            }
        }
        entries.sort();
        let mut all: u64 = entries.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, path) in entries {
            if all <= size {
                break;
            }
            if fs::remove_file(path).is_ok() {
                all -= bytes;
            }
        }
    }
}

/// Converts `megabytes` to bytes; the default if it is not set.
fn size_of(megabytes: Option<&str>) -> u64 {
    let Some(set) = megabytes.map(str::trim).filter(|set| !set.is_empty()) else {
        return DEFAULT_MAX_BYTES;
    };
    match set.parse::<u64>() {
        Ok(megabytes) => megabytes.saturating_mul(1_000_000),
        Err(_) => {
            let line = format!("{SIZE_VARIABLE} is \"{set}\", which is not a number of megabytes: it is ignored");
            log(LogLevel::Warning, &line);
            DEFAULT_MAX_BYTES
        }
    }
}

/// `nemostt/graphs` in the user's cache directory, according to the XDG Base Directory Specification: relative paths
/// are ignored.
fn default_path(variable: impl Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Option<PathBuf> {
    let caches = variable("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let home = || Some(home.filter(|home| home.is_absolute())?.join(".cache"));
    Some(caches.or_else(home)?.join("nemostt").join("graphs"))
}

/// Creates a directory that only this user can read, as the specification requires, unless it exists.
fn create_private(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn is_entry(name: &std::ffi::OsStr) -> bool {
    let key = name.to_str().and_then(|name| name.strip_suffix(ENTRY_SUFFIX));
    key.is_some_and(|key| key.len() == DIGITS && key.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

fn is_temp_file(name: &std::ffi::OsStr) -> bool {
    let name = name.to_str().unwrap_or_default();
    name.starts_with(TEMP_PREFIX) && name.ends_with(TEMP_SUFFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(path: &Path, size: u64) -> CacheDir {
        CacheDir::of(&CacheDirectory::At(path.into()), Some(size)).unwrap()
    }

    /// An entry of `bytes` bytes that was last used `age` seconds ago.
    fn entry(directory: &CacheDir, digit: char, bytes: usize, age: u64) -> PathBuf {
        let path = directory.entry(&digit.to_string().repeat(DIGITS));
        fs::write(&path, vec![0; bytes]).unwrap();
        set_age(&path, age);
        path
    }

    fn set_age(path: &Path, age: u64) {
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    }

    #[test]
    fn default_directory_follows_xdg() {
        let of = |variable: Option<&str>, home: Option<&str>| {
            let variable = variable.map(OsString::from);
            let found = default_path(
                |name| variable.clone().filter(|_| name == "XDG_CACHE_HOME"),
                home.map(PathBuf::from),
            );
            found.map(|path| path.display().to_string())
        };
        assert_eq!(of(Some("/x"), Some("/home/a")).as_deref(), Some("/x/nemostt/graphs"));
        let at_home = Some("/home/a/.cache/nemostt/graphs");
        for variable in [None, Some(""), Some("relative/path")] {
            assert_eq!(of(variable, Some("/home/a")).as_deref(), at_home);
            assert_eq!(of(variable, None), None);
            assert_eq!(of(variable, Some("")), None);
        }
        assert_eq!(CacheDir::of(&CacheDirectory::Off, None), None);
    }

    #[test]
    fn size_is_in_megabytes() {
        for (set, size) in [
            (None, DEFAULT_MAX_BYTES),
            (Some(""), DEFAULT_MAX_BYTES),
            (Some("much"), DEFAULT_MAX_BYTES),
            (Some("-1"), DEFAULT_MAX_BYTES),
        ] {
            assert_eq!(size_of(set), size, "{set:?}");
        }
        assert_eq!(size_of(Some(" 500 ")), 500_000_000);
        assert_eq!(size_of(Some("0")), 0);
        assert_eq!(size_of(Some(&u64::MAX.to_string())), u64::MAX);
    }

    #[cfg(unix)]
    #[test]
    fn directory_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("nemostt/graphs");
        let part = directory(&path, 100).temp_file(10).unwrap().unwrap();
        assert!(part.path().starts_with(&path));
        for created in [path.as_path(), path.parent().unwrap()] {
            assert_eq!(fs::metadata(created).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn least_recently_used_entry_is_evicted_first() {
        let place = tempfile::tempdir().unwrap();
        let directory = directory(place.path(), 100);
        let ages = [('a', 10), ('b', 30), ('c', 20), ('d', 40)];
        let [a, b, c, d] = ages.map(|(digit, age)| entry(&directory, digit, 30, age));
        directory.touch(&File::options().write(true).open(&d).unwrap());
        let _part = directory.temp_file(40).unwrap().unwrap();
        assert!(a.exists() && d.exists());
        assert!(!b.exists() && !c.exists());
    }

    #[test]
    fn oversized_entry_is_not_written() {
        let place = tempfile::tempdir().unwrap();
        let directory = directory(place.path(), 100);
        let other = entry(&directory, 'a', 30, 10);
        assert!(directory.temp_file(101).unwrap().is_none());
        assert!(other.exists(), "nothing is evicted for it");
    }

    #[test]
    fn unrelated_files_are_kept() {
        let place = tempfile::tempdir().unwrap();
        let directory = directory(place.path(), 10);
        let names = ["notes.txt", "a.graph", ".part", "nemostt-1.txt", "model.onnx"];
        for name in names {
            fs::write(place.path().join(name), [0; 100]).unwrap();
            set_age(&place.path().join(name), 100_000);
        }
        fs::create_dir(directory.entry(&"e".repeat(DIGITS))).unwrap();
        let [fresh, abandoned] = ["nemostt-abc.part", "nemostt-def.part"].map(|name| place.path().join(name));
        fs::write(&fresh, []).unwrap();
        fs::write(&abandoned, []).unwrap();
        set_age(&abandoned, 2 * STALE_AFTER.as_secs());
        let _part = directory.temp_file(10).unwrap().unwrap();
        assert!(names.iter().all(|name| place.path().join(name).exists()));
        assert!(fresh.exists() && !abandoned.exists());
    }
}

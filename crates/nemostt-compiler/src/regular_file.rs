// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reads files of models and caches. Only regular files up to a maximum size are accepted; devices, pipes and oversized
//! files are rejected before anything waits for them or reads them.
//!
//! Symbolic links are followed, because download caches consist of them.

use std::{
    fs::{File, FileType, Metadata, OpenOptions, metadata},
    io::{Error, ErrorKind, Read, Result},
    path::Path,
};

/// Maximum bytes of a graph, Protocol Buffers' limit of a message.
pub const GRAPH: u64 = i32::MAX as u64;
/// Maximum bytes of an external data file: 4 G parameters in float32, four times the largest model of this family.
pub const WEIGHTS: u64 = 16 << 30;
/// Maximum bytes of a vocabulary: twice the largest known one, a `tokenizer.json` with 262,000 tokens.
pub const VOCABULARY: u64 = 64 << 20;
/// Maximum bytes of `nemostt.json`. That of a multilingual model, with its languages, has 10 kB.
pub const SIDECAR: u64 = 1 << 20;

/// Opens the regular file `path`, which may have at most `max_bytes` bytes, and returns its size.
///
/// # Errors
/// The operating system's; `InvalidInput` if it is not a regular file, `FileTooLarge` if it is too large.
pub fn open(path: &Path, max_bytes: u64) -> Result<(File, u64)> {
    // Checked before opening, because opening a device may already have side effects.
    check(&metadata(path)?, max_bytes)?;
    let mut options = OpenOptions::new();
    options.read(true);
    // The file may have been replaced in the meantime: opening a pipe must not block.
    #[cfg(target_os = "linux")]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = options.open(path)?;
    let length = check(&file.metadata()?, max_bytes)?;
    Ok((file, length))
}

/// Reads the regular file `path`, which may have at most `max_bytes` bytes.
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let (file, length) = open(path, max_bytes)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length as usize)?;
    // The file may grow in the meantime, and files in /proc report size 0.
    let read = file.take(max_bytes + 1).read_to_end(&mut bytes)? as u64;
    match read > max_bytes {
        true => Err(too_large(read, max_bytes)),
        false => Ok(bytes),
    }
}

fn check(metadata: &Metadata, max_bytes: u64) -> Result<u64> {
    match metadata.len() {
        _ if !metadata.is_file() => Err(Error::new(
            ErrorKind::InvalidInput,
            format!("it is {}, expected a regular file", what(metadata.file_type())),
        )),
        length if length > max_bytes => Err(too_large(length, max_bytes)),
        length => Ok(length),
    }
}

fn too_large(length: u64, max_bytes: u64) -> Error {
    Error::new(
        ErrorKind::FileTooLarge,
        format!("it has {length} bytes or more, expected at most {max_bytes}"),
    )
}

#[cfg(unix)]
fn what(kind: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match () {
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a named pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    }
}

#[cfg(not(unix))]
fn what(kind: FileType) -> &'static str {
    match kind.is_dir() {
        true => "a directory",
        false => "a device",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_of_their_size_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        let error = read(&path, 4).unwrap_err().to_string();
        assert!(error.contains("5 bytes") && error.contains("at most 4"), "{error}");
        let error = read(directory.path(), 5).unwrap_err().to_string();
        assert!(error.contains("a directory"), "{error}");
        #[cfg(target_os = "linux")]
        {
            let link = directory.path().join("link");
            std::os::unix::fs::symlink(&path, &link).unwrap();
            assert_eq!(read(&link, 5).unwrap(), b"12345");
            let error = read("/dev/zero".as_ref(), 5).unwrap_err().to_string();
            assert!(error.contains("a device"), "{error}");
            // Its size is reported as 0.
            let error = read("/proc/self/maps".as_ref(), 100).unwrap_err().to_string();
            assert!(error.contains("101 bytes or more"), "{error}");
        }
    }
}

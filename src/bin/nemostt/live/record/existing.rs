// SPDX-License-Identifier: MIT OR Apache-2.0

//! A file that exists: how it ends, and what is done with a torn cue.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::{
    format::Format,
    tail::{self, Tail},
};
use crate::output_file::unwritable;

/// Most bytes of a file that is read as a whole.
const MAX_BYTES: u64 = 1 << 30;
/// Bytes of the end in which the last cue is looked for first: hours of captions.
const END_BYTES: u64 = 1 << 20;
/// Bytes of the beginning, which has the signature of the format.
const HEAD_BYTES: u64 = 64;

/// How `file`, of `length` bytes, ends.
///
/// # Errors
/// One line about `path`, if it cannot be read or has other contents.
pub fn read(file: &mut File, length: u64, path: &Path, format: Format) -> Result<Tail, String> {
    let failed = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let refused = |expected: &str| {
        format!(
            "{} cannot be continued: {expected}. Record into another file",
            path.display()
        )
    };
    if length > END_BYTES {
        let head = part(file, 0, HEAD_BYTES).map_err(failed)?;
        let start = length - END_BYTES;
        let end = part(file, start, END_BYTES).map_err(failed)?;
        if let Some(tail) = tail::read_end(&head, &end, start, format).map_err(refused)? {
            return Ok(tail);
        }
    }
    if length > MAX_BYTES {
        return Err(format!(
            "{} is larger than 1 GiB, and its last MiB has no cue: record into another file",
            path.display()
        ));
    }
    let text = part(file, 0, length).map_err(failed)?;
    tail::read(&text, format).map_err(refused)
}

/// Moves what follows the first `complete` of `length` bytes to another file: it may be a cue of another program after all.
/// Returns a notice if there was something.
///
/// # Errors
/// One line, if that file cannot be written, or `file` not shortened.
pub fn set_aside(
    file: &mut File,
    complete: u64,
    length: u64,
    path: &Path,
    format: Format,
) -> Result<Option<String>, String> {
    if complete == length {
        return Ok(None);
    }
    let failed = |error: io::Error| unwritable(path, &error);
    let torn = part(file, complete, length - complete).map_err(failed)?;
    let is_header = complete == 0 && format.header().as_bytes().starts_with(&torn);
    let mut notice = None;
    if !is_header && !torn.trim_ascii().is_empty() {
        let other = torn_path(path);
        let opened = File::options().append(true).create(true).open(&other);
        let stored = opened.and_then(|mut file| {
            file.write_all(&torn)?;
            file.write_all(b"\n")?;
            file.sync_all()
        });
        stored.map_err(|error| unwritable(&other, &error))?;
        notice = Some(format!(
            "the last cue of {} was incomplete and is now in {}",
            path.display(),
            other.display()
        ));
    }
    file.set_len(complete).map_err(failed)?;
    Ok(notice)
}

/// Where what is left of a cue is kept: `FILE.torn`.
fn torn_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".torn");
    name.into()
}

/// Makes the entry of a file that was created survive a loss of power.
pub fn sync_directory(path: &Path) {
    let directory = path.parent().filter(|parent| *parent != Path::new(""));
    // Some file systems cannot do it, and the captions are more important.
    let _ = File::open(directory.unwrap_or(Path::new("."))).and_then(|directory| directory.sync_all());
}

fn part(file: &mut File, start: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

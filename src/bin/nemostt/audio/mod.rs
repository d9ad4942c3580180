// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where samples come from: whatever GStreamer can decode, or raw samples on standard input.

mod decoded;
mod raw;
mod trouble;

use std::{
    fs::File,
    io::{self, Stdin},
    path::Path,
};

use decoded::Decoded;
use raw::Raw;

use crate::Result;

/// Samples read at a time. At 16 kHz they last 100 ms, so that words appear soon after they were said.
const BLOCK: usize = 1600;

/// A source of mono samples.
pub enum Input {
    /// A file, decoded by GStreamer. Boxed, for it is far larger than the other.
    Decoded(Box<Decoded>),
    /// Raw 16-bit little-endian mono samples.
    Raw(Raw<Stdin>),
}

impl Input {
    /// Opens `path` to be heard at `rate` samples per second; `-` is standard input.
    pub fn open(path: &Path, rate: u32) -> Result<Self> {
        Ok(match is_standard_input(path) {
            true => Self::Raw(Raw::new(io::stdin())),
            false => Self::Decoded(Box::new(Decoded::open(path, rate)?)),
        })
    }

    /// Samples in all, where that is known beforehand. An estimate for some formats.
    pub fn samples(&self) -> Option<u64> {
        match self {
            Self::Decoded(decoded) => decoded.samples(),
            Self::Raw(_) => None,
        }
    }

    /// Replaces `mono` by the next samples, -1.0 to 1.0; by none at the end.
    pub fn read(&mut self, mono: &mut Vec<f32>) -> Result<()> {
        mono.clear();
        match self {
            Self::Decoded(decoded) => decoded.read(mono),
            Self::Raw(raw) => raw.read(mono),
        }
    }
}

/// Whether `path` means standard input.
pub fn is_standard_input(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Whether there is anything to read at `path`: told before a model is loaded for nothing.
pub fn check(path: &Path) -> Result<()> {
    if is_standard_input(path) {
        return Ok(());
    }
    let unreadable = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let about = path.metadata().map_err(unreadable)?;
    if about.is_dir() {
        return Err(format!(
            "cannot read {}: it is a directory; name the files in it",
            path.display()
        )
        .into());
    }
    // Opening anything else, such as a named pipe, could wait or take something away.
    if about.is_file() {
        File::open(path).map_err(unreadable)?;
        if about.len() == 0 {
            return Err(format!("{} is empty: nothing was recorded or copied into it", path.display()).into());
        }
    }
    Ok(())
}

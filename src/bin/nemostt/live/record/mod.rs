// SPDX-License-Identifier: MIT OR Apache-2.0

//! A file with the captions of one or more sessions.
//!
//! Each cue is appended with one call. So if the process or the machine stops at any moment, at most the cue that was being
//! written is torn, and the next session moves what is left of it to `FILE.torn`. Times of a session go on after the last cue of the file.

mod background;
mod existing;
mod format;
mod tail;

use std::{
    fs::{File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

pub use background::BackgroundRecorder;
pub use format::Format;
use nemostt::cues::{CueBuilder, CueRules};

use super::caption::Caption;
use crate::output_file::unwritable;

/// An open file, locked against other processes that would append to it.
pub struct Recorder {
    path: PathBuf,
    file: File,
    format: Format,
    cues: CueBuilder,
    /// Cues in the file.
    count: u64,
    /// Length of the file in bytes, as far as it is complete.
    length: u64,
    /// Milliseconds in the file at which this session begins.
    offset: u64,
    is_failing: bool,
}

impl Recorder {
    /// Creates `path`, or opens it to be continued; with a notice, if it ended with a torn cue.
    ///
    /// # Errors
    /// One line, if it cannot be written, is written by another process, or has other contents.
    pub fn open(path: &Path, format: Format, rules: CueRules) -> Result<(Self, Option<String>), String> {
        let failed = |error: io::Error| unwritable(path, &error);
        let options = File::options().read(true).append(true).create(true).open(path);
        let mut file = options.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(format!(
                    "{} is being written by another process: record into another file",
                    path.display()
                ));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let about = file.metadata().map_err(failed)?;
        if !about.is_file() {
            return Err(format!(
                "cannot record into {}: it is not a regular file",
                path.display()
            ));
        }
        let tail = existing::read(&mut file, about.len(), path, format)?;
        let notice = existing::set_aside(&mut file, tail.length, about.len(), path, format)?;
        let mut recorder = Self {
            path: path.into(),
            file,
            format,
            cues: CueBuilder::new(rules).map_err(|error| error.to_string())?,
            count: tail.count,
            length: tail.length,
            offset: tail.end,
            is_failing: false,
        };
        recorder.append(tail.missing.as_bytes()).map_err(failed)?;
        if about.len() == 0 {
            existing::sync_directory(path);
        }
        Ok((recorder, notice))
    }

    /// Appends a final caption. Returns a notice if it could not be written, for the first time.
    pub fn caption(&mut self, caption: &Caption) -> Option<String> {
        if self.format == Format::JsonLines {
            let text = format::json_line(caption, self.offset);
            return self.write(&text);
        }
        caption.add_to(&mut self.cues, self.offset);
        self.cues.flush();
        let mut notice = None;
        while let Some(cue) = self.cues.next_cue() {
            let text = self.format.cue(&cue, self.count.saturating_add(1));
            notice = notice.or(self.write(&text));
        }
        notice
    }

    /// Writes a cue. If that fails, as on a full disk, the file stays as it was, and the next cue is tried again.
    fn write(&mut self, text: &str) -> Option<String> {
        match self.append(text.as_bytes()) {
            Ok(()) => {
                self.count = self.count.saturating_add(1);
                self.is_failing = false;
                None
            }
            Err(error) => {
                // What is left of the cue is removed now, or by the next session.
                let _ = self.file.set_len(self.length);
                let is_first = !std::mem::replace(&mut self.is_failing, true);
                is_first.then(|| {
                    format!(
                        "{}; captions are lost until it can be written again",
                        unwritable(&self.path, &error)
                    )
                })
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.file.write_all(bytes)?;
        self.file.sync_data()?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

impl Drop for Recorder {
    /// Unlocks the file explicitly: a process that another thread is just starting still has a copy of it, which would keep the
    /// lock.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests;

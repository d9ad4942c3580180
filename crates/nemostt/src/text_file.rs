// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reads text files that users write: lists of phrases, words and replacements.

use std::path::Path;

use nemostt_compiler::regular_file;

use crate::error::{Error, Result};

/// Maximum bytes of a file: 10,000 lines of 200 bytes.
pub(crate) const MAX_BYTES: usize = 2 << 20;

/// The text of `path`, without the byte order mark that Windows' editors put in front.
///
/// # Errors
/// [`Error::Read`], also if it has more than [`MAX_BYTES`]; [`Error::NotUtf8`].
pub(crate) fn read(path: &Path) -> Result<String> {
    let bytes = regular_file::read(path, MAX_BYTES as u64).map_err(|source| Error::Read {
        path: path.into(),
        source,
    })?;
    let text = String::from_utf8(bytes.to_vec()).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        Error::NotUtf8 {
            path: path.into(),
            line: 1 + valid.iter().filter(|&&byte| byte == b'\n').count(),
        }
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(text) => text.into(),
        None => text,
    })
}

/// The lines of `text` that are neither empty nor comments, trimmed, with their numbers.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = (1..).zip(text.lines().map(str::trim));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// The beginning of `text`, for errors.
pub(crate) fn shorten(text: &str) -> String {
    /// Characters that are shown.
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

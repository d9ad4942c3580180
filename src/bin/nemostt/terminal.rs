// SPDX-License-Identifier: MIT OR Apache-2.0

//! The width of the terminal that standard output goes to.

use std::io::stdout;

/// Columns of a table that goes to a file or a pipe.
const WITHOUT_TERMINAL: usize = 100;

/// Columns that a line on standard output may take.
pub fn width() -> usize {
    terminal_width().unwrap_or(WITHOUT_TERMINAL)
}

/// Columns of the terminal; `None` if standard output is not one, or does not know.
pub fn terminal_width() -> Option<usize> {
    let (width, _) = terminal_size::terminal_size_of(stdout())?;
    (width.0 > 0).then_some(width.0.into())
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The width of the terminal that standard output goes to.

/// Columns of a table that goes to a file or a pipe.
const WITHOUT_TERMINAL: usize = 100;

/// Columns that a line on standard output may take.
pub fn width() -> usize {
    terminal_width().unwrap_or(WITHOUT_TERMINAL)
}

/// Columns of the terminal; `None` if standard output is not one, or does not know.
// The fuzz target of this module has no libc.
#[cfg(all(target_os = "linux", not(fuzzing)))]
fn terminal_width() -> Option<usize> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCGWINSZ writes one `winsize`, which lives until the call returns, and fails on what is not a terminal.
    #[allow(unsafe_code)]
    let result = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_col > 0).then_some(size.ws_col.into())
}

#[cfg(not(all(target_os = "linux", not(fuzzing))))]
fn terminal_width() -> Option<usize> {
    None
}

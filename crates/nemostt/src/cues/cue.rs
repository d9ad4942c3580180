// SPDX-License-Identifier: MIT OR Apache-2.0

//! A cue: text on the screen for some time.

/// Text that is shown for some time. Times are in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cue {
    /// When it appears.
    pub start: u64,
    /// When it goes or is replaced; always after `start`.
    pub end: u64,
    /// Everything that is on the screen, top to bottom: in roll-up and paint-on, also what was there before.
    pub lines: Vec<String>,
    /// What is new on the screen.
    pub added: Vec<Added>,
    /// Whether the screen is cleared for it.
    pub clears: bool,
    /// Number of words that it completes: all cues together have each word once.
    pub words: usize,
}

impl Cue {
    /// Its lines, with line breaks between them.
    pub fn text(&self) -> String {
        self.lines.join("\n")
    }
}

/// Text that a cue adds to the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// Index in [`Cue::lines`].
    pub line: usize,
    /// Column at which it begins.
    pub column: usize,
    /// Text; it begins with a space if there is a word before it in its line.
    pub text: String,
}

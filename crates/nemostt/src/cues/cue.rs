// SPDX-License-Identifier: MIT OR Apache-2.0

//! A cue: text on the screen for some time.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

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
    /// Number of words that it completes: all cues together have each word that has text once.
    pub words: usize,
    /// By how much it begins later because its first word was not known in time, or because something else
    /// [was put](super::CueBuilder::not_before) where it would have begun.
    pub delayed: u64,
}

impl Cue {
    /// Its lines, with line breaks between them.
    pub fn text(&self) -> String {
        self.lines.join("\n")
    }

    /// The end of the line that `added` is added to, and the column at which it begins: the last multiple of `step` columns up
    /// to `added` at which a character begins.
    ///
    /// # Panics
    /// If `step` is 0.
    pub fn painted(&self, added: &Added, step: usize) -> (usize, &str) {
        let line = self.lines.get(added.line).map_or("", String::as_str);
        let places = line.grapheme_indices(true).scan(0, |column, (index, text)| {
            let place = (*column, index);
            *column += text.width();
            Some(place)
        });
        let places = places.take_while(|&(column, _)| column <= added.column);
        let (column, index) = places
            .filter(|(column, _)| column % step == 0)
            .last()
            .unwrap_or_default();
        (column, &line[index..])
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Where painting begins for text that is added at `column` of `line`.
    fn painted(line: &str, column: usize) -> (usize, String) {
        let added = Added {
            line: 0,
            column,
            text: String::new(),
        };
        let cue = Cue {
            start: 0,
            end: 1,
            lines: vec![line.to_owned()],
            added: vec![added.clone()],
            clears: false,
            words: 1,
            delayed: 0,
        };
        let (column, text) = cue.painted(&added, 4);
        (column, text.to_owned())
    }

    #[test]
    fn a_line_is_painted_from_a_multiple_of_columns() {
        assert_eq!(painted("one two three", 3), (0, "one two three".into()));
        assert_eq!(painted("one two three", 7), (4, "two three".into()));
        assert_eq!(painted("one two three", 8), (8, "three".into()));
        assert_eq!(painted("", 0), (0, "".into()));
    }

    #[test]
    fn combining_characters_take_no_column() {
        let line = ["e\u{301}".repeat(5).as_str(), " two"].concat();
        assert_eq!(painted(&line, 5), (4, "e\u{301} two".into()));
        assert_eq!(painted(&line, 9), (8, "o".into()));
    }

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!(painted("日本語 字幕", 6), (4, "語 字幕".into()));
        // At column 4, one of them is in the middle.
        assert_eq!(painted("a日本 字幕", 5), (0, "a日本 字幕".into()));
    }
}

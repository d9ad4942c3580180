// SPDX-License-Identifier: MIT OR Apache-2.0

//! Words as cues see them: no longer than a line, and measured in columns.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// A word, or a part of one that is longer than a line. Times are in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) text: String,
    /// Columns.
    pub(super) width: usize,
    /// Characters as readers count them.
    pub(super) characters: u64,
    pub(super) start: u64,
    pub(super) end: u64,
    /// It continues the word before it, without a space.
    pub(super) continues: bool,
    /// Number of words that are complete with it.
    pub(super) words: usize,
    /// The speaker has finished after it.
    pub(super) ends_utterance: bool,
}

impl Piece {
    /// Columns between it and the piece before it in the same line.
    pub(super) fn space(&self) -> usize {
        usize::from(!self.continues)
    }
}

/// The pieces of a word of `text` that lasts from `start` to `end`: one, unless it has spaces in it or is longer than
/// `columns`. Control characters are dropped. Without any text, there is none.
pub(super) fn pieces(text: &str, start: u64, end: u64, columns: usize) -> Vec<Piece> {
    let printable = |part: &str| part.chars().filter(|char| !char.is_control()).collect::<String>();
    let mut parts = Vec::new();
    for part in text.split_whitespace().map(printable).filter(|part| !part.is_empty()) {
        let split = split(&part, columns);
        parts.extend(split.into_iter().enumerate().map(|(index, text)| (text, index > 0)));
    }
    let count = parts.len() as u64;
    // Parts share the time of the word evenly.
    let share = |index: u64| start + end.saturating_sub(start) / count * index;
    let last = parts.len().saturating_sub(1);
    let parts = parts.into_iter().enumerate();
    parts
        .map(|(index, (text, continues))| Piece {
            width: text.width(),
            characters: characters(&text),
            text,
            start: share(index as u64),
            end: if index == last {
                end.max(start)
            } else {
                share(index as u64 + 1)
            },
            continues,
            words: usize::from(index == last),
            ends_utterance: false,
        })
        .collect()
}

/// Number of characters of `text` as readers count them.
fn characters(text: &str) -> u64 {
    text.graphemes(true).count() as u64
}

/// Splits `word` into parts of at most `columns`, between characters as readers see them.
fn split(word: &str, columns: usize) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut append = |text: &str| {
        let Some(part) = parts.last_mut() else { return };
        if part.is_empty() || [part.as_str(), text].concat().width() <= columns {
            part.push_str(text);
        } else {
            parts.push(text.into());
        }
    };
    for grapheme in word.graphemes(true) {
        match grapheme.width() <= columns {
            true => append(grapheme),
            // A cluster of very many characters: not of any script, but text of a model can be anything.
            false => {
                for char in grapheme
                    .chars()
                    .filter(|char| char.width().is_some_and(|width| width <= columns))
                {
                    append(char.encode_utf8(&mut [0; 4]));
                }
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str, columns: usize) -> Vec<String> {
        pieces(text, 0, 12, columns)
            .into_iter()
            .map(|piece| piece.text)
            .collect()
    }

    #[test]
    fn a_word_that_fits_is_one_piece() {
        let one = pieces("word.", 5, 9, 8);
        assert_eq!(one.len(), 1);
        assert_eq!((one[0].width, one[0].characters, one[0].words), (5, 5, 1));
        assert_eq!((one[0].start, one[0].end, one[0].continues), (5, 9, false));
    }

    #[test]
    fn a_long_word_is_split_between_graphemes() {
        // Each "é" is an e and a combining accent.
        let word = "e\u{301}".repeat(10);
        assert_eq!(texts(&word, 8), ["e\u{301}".repeat(8), "e\u{301}".repeat(2)]);
        let parts = pieces(&word, 0, 12, 8);
        let times: Vec<_> = parts
            .iter()
            .map(|part| (part.start, part.end, part.continues, part.words))
            .collect();
        assert_eq!(times, [(0, 6, false, 0), (6, 12, true, 1)]);
    }

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!(texts("日本語字幕", 8), ["日本語字", "幕"]);
    }

    #[test]
    fn spaces_and_control_characters_do_not_reach_a_line() {
        assert_eq!(texts(" one\ntwo\u{7} ", 8), ["one", "two"]);
        assert_eq!(texts(" \u{7}\n", 8), [""; 0]);
        assert_eq!(pieces("one two", 0, 4, 8)[1].words, 1);
        assert!(!pieces("one two", 0, 4, 8)[1].continues);
    }
}

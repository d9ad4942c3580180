// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is on the screen in roll-up and paint-on, where text stays when more is added.

use unicode_width::UnicodeWidthStr;

use super::{cue::Added, piece::Piece};

/// Lines on the screen, top to bottom.
#[derive(Debug, Clone, Default)]
pub(super) struct Screen {
    pub(super) lines: Vec<String>,
}

impl Screen {
    pub(super) fn clear(&mut self) {
        self.lines.clear();
    }

    /// Adds a line at the bottom; of the lines above it, as many stay as there is room for.
    pub(super) fn roll_up(&mut self, text: String, rows: usize) -> Added {
        self.lines.push(text.clone());
        let gone = self.lines.len().saturating_sub(rows);
        self.lines.drain(..gone);
        Added {
            line: self.lines.len() - 1,
            column: 0,
            text,
        }
    }

    /// Whether there is room for a unit of `width` columns that begins with `piece`.
    pub(super) fn has_room(&self, piece: &Piece, width: usize, columns: usize, rows: usize) -> bool {
        self.lines.len() < rows || self.fits_in_line(piece, width, columns)
    }

    fn fits_in_line(&self, piece: &Piece, width: usize, columns: usize) -> bool {
        self.lines
            .last()
            .is_some_and(|line| line.width() + piece.space() + width <= columns)
    }

    /// Adds `piece`, which begins a unit of `width` columns: in the last line if the unit fits there or no more lines are
    /// left, else in a new one. `added` gets what is new.
    pub(super) fn paint(&mut self, piece: &Piece, width: usize, columns: usize, rows: usize, added: &mut Vec<Added>) {
        let is_last_line = self.lines.len() >= rows;
        let stays =
            self.fits_in_line(piece, width, columns) || is_last_line && self.fits_in_line(piece, piece.width, columns);
        if !stays {
            self.lines.push(String::new());
        }
        let index = self.lines.len().saturating_sub(1);
        let Some(line) = self.lines.last_mut() else { return };
        let column = line.width();
        let space = if line.is_empty() || piece.continues { "" } else { " " };
        let text = [space, &piece.text].concat();
        line.push_str(&text);
        match added.last_mut().filter(|last| last.line == index) {
            Some(last) => last.text.push_str(&text),
            None => added.push(Added {
                line: index,
                column,
                text,
            }),
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a decoder of CEA-608 shows: a screen of 15 rows of 32 columns (47 CFR 15.119).

use cea608_types::{Cea608, Cea608State, Mode};

const ROWS: usize = 15;
const COLUMNS: usize = 32;

type Memory = [[char; COLUMNS]; ROWS];

/// A decoder of channel 1 in field 1.
pub struct Screen608 {
    state: Cea608State,
    mode: Mode,
    displayed: Memory,
    hidden: Memory,
    row: usize,
    column: usize,
    /// The texts that were on the screen before it was cleared, replaced, or moved up.
    pub shown: Vec<Vec<String>>,
}

impl Default for Screen608 {
    fn default() -> Self {
        Self {
            state: Cea608State::default(),
            mode: Mode::PopOn,
            displayed: [[' '; COLUMNS]; ROWS],
            hidden: [[' '; COLUMNS]; ROWS],
            row: ROWS - 1,
            column: 0,
            shown: Vec::new(),
        }
    }
}

impl Screen608 {
    /// Decodes the two bytes of a frame.
    pub fn push(&mut self, pair: [u8; 2]) {
        let Some(code) = self.state.decode(pair).unwrap() else {
            return;
        };
        match code {
            Cea608::Text(text) => {
                for char in text.char1.into_iter().chain(text.char2) {
                    assert!(self.column < COLUMNS, "text beyond the last column");
                    let (row, column) = (self.row, self.column);
                    self.memory()[row][column] = char;
                    self.column += 1;
                }
            }
            Cea608::NewMode(_, mode) => self.mode = mode,
            Cea608::EraseDisplay(_) => self.clear(),
            Cea608::EraseNonDisplay(_) => self.hidden = [[' '; COLUMNS]; ROWS],
            Cea608::CarriageReturn(_) => {
                // Without effect in the other modes.
                let Some(rows) = self.mode.rollup_rows() else { return };
                let rows = usize::from(rows);
                self.keep();
                let top = self.row + 1 - rows;
                for row in 0..ROWS {
                    self.displayed[row] = match row {
                        row if (top..self.row).contains(&row) => self.displayed[row + 1],
                        _ => [' '; COLUMNS],
                    };
                }
                self.column = 0;
            }
            Cea608::EndOfCaption(_) => {
                self.keep();
                std::mem::swap(&mut self.displayed, &mut self.hidden);
            }
            Cea608::Preamble(_, preamble) => {
                (self.row, self.column) = (preamble.row().into(), preamble.column().into());
            }
            Cea608::TabOffset(_, columns) => self.column += usize::from(columns),
            Cea608::DeleteToEndOfRow(_) => {
                let (row, column) = (self.row, self.column);
                self.memory()[row][column..].fill(' ');
            }
            Cea608::Backspace(_) => panic!("text is deleted"),
            Cea608::MidRowChange(..) => panic!("the style changes"),
        }
    }

    /// The lines on the screen.
    pub fn lines(&self) -> Vec<String> {
        let rows = self
            .displayed
            .iter()
            .map(|row| row.iter().collect::<String>().trim().to_owned());
        rows.filter(|line| !line.is_empty()).collect()
    }

    /// What was shown, and is shown now.
    pub fn all(&self) -> Vec<Vec<String>> {
        let last = Some(self.lines()).filter(|lines| !lines.is_empty());
        self.shown.iter().cloned().chain(last).collect()
    }

    fn memory(&mut self) -> &mut Memory {
        match self.mode {
            Mode::PopOn => &mut self.hidden,
            _ => &mut self.displayed,
        }
    }

    fn keep(&mut self) {
        let lines = self.lines();
        if !lines.is_empty() {
            self.shown.push(lines);
        }
    }

    fn clear(&mut self) {
        self.keep();
        self.displayed = [[' '; COLUMNS]; ROWS];
    }
}

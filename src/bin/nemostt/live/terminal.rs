// SPDX-License-Identifier: MIT OR Apache-2.0

//! Captions on standard output: one line each, and in the last line of a terminal what is being said.

use std::io::{self, IsTerminal, Stdout, Write, stdout};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::caption::Caption;

/// Columns of a terminal that does not know its width.
const UNKNOWN_WIDTH: usize = 80;
/// Clears the line and returns to its beginning.
const CLEAR: &str = "\r\x1b[K";

/// The columns of the terminal; `None` if it is not one.
pub type Width = fn() -> Option<usize>;

/// Writes captions.
pub struct Terminal<W> {
    writer: W,
    width: Width,
    /// What the last line shows.
    partial: String,
}

impl Terminal<Stdout> {
    /// Standard output.
    pub fn standard_output() -> Self {
        Self::new(stdout(), || {
            let width = || terminal_size::terminal_size_of(stdout()).map(|(width, _)| usize::from(width.0));
            stdout()
                .is_terminal()
                .then(|| width().filter(|&width| width > 0).unwrap_or(UNKNOWN_WIDTH))
        })
    }
}

impl<W: Write> Terminal<W> {
    pub fn new(writer: W, width: Width) -> Self {
        Self {
            writer,
            width,
            partial: String::new(),
        }
    }

    /// Shows a caption.
    pub fn caption(&mut self, caption: &Caption) -> io::Result<()> {
        let text = escape(&caption.text);
        if caption.is_final {
            self.clear()?;
            writeln!(self.writer, "{text}")?;
            return self.writer.flush();
        }
        // The last column stays free: after a character in it, some terminals are in the next line.
        let Some(columns) = (self.width)().map(|width| width.saturating_sub(1)) else {
            return Ok(());
        };
        let shown = tail(&text, columns);
        if shown != self.partial {
            write!(self.writer, "{CLEAR}{shown}")?;
            self.writer.flush()?;
            self.partial = shown;
        }
        Ok(())
    }

    /// Makes room for a line of something else: a message on standard error, or the prompt of a shell.
    pub fn clear(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.partial).is_empty() {
            write!(self.writer, "{CLEAR}")?;
            self.writer.flush()?;
        }
        Ok(())
    }
}

/// `text` without what a terminal would act on: control characters, and those that change the direction of text.
fn escape(text: &str) -> String {
    let acts =
        |letter: char| letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match acts(letter) {
            true => escaped.extend(letter.escape_default()),
            false => escaped.push(letter),
        }
    }
    escaped
}

/// The end of `text`, at most `columns` wide, with a mark where it was cut.
fn tail(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.into();
    }
    let mut left = columns.saturating_sub(1);
    let mut start = text.len();
    for (index, letter) in text.char_indices().rev() {
        let width = letter.width().unwrap_or(0);
        if width > left {
            break;
        }
        left -= width;
        start = index;
    }
    match columns {
        0 => String::new(),
        _ => format!("…{}", &text[start..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caption(text: &str, is_final: bool) -> Caption {
        Caption {
            utterance: 0,
            text: text.into(),
            is_final,
            start: 0,
            end: 1,
            words: Vec::new(),
        }
    }

    fn written(width: Width, captions: &[Caption]) -> String {
        let mut terminal = Terminal::new(Vec::new(), width);
        for caption in captions {
            terminal.caption(caption).unwrap();
        }
        terminal.clear().unwrap();
        String::from_utf8(terminal.writer).unwrap()
    }

    #[test]
    fn partials_are_redrawn_in_place() {
        let captions = [
            caption("one", false),
            caption("one", false),
            caption("one two three", false),
            caption("one two three.", true),
            caption("four", false),
        ];
        assert_eq!(
            written(|| Some(10), &captions),
            "\r\x1b[Kone\r\x1b[K…wo three\r\x1b[Kone two three.\n\r\x1b[Kfour\r\x1b[K"
        );
        assert_eq!(written(|| None, &captions), "one two three.\n");
    }

    #[test]
    fn the_end_of_a_long_text_is_shown() {
        assert_eq!(tail("one two", 7), "one two");
        assert_eq!(tail("one two", 6), "…e two");
        // Wide characters take two columns, combining ones none.
        assert_eq!(tail("日本語", 4), "…語");
        assert_eq!(tail("abe\u{301}", 2), "…e\u{301}");
        assert_eq!([tail("ab", 1), tail("ab", 0)], ["…", ""]);
    }

    #[test]
    fn a_terminal_is_not_controlled_by_text() {
        assert_eq!(escape("a\x1b[2Jb\u{202e}c\n"), "a\\u{1b}[2Jb\\u{202e}c\\n");
        assert_eq!(escape("día, 日本"), "día, 日本");
    }
}

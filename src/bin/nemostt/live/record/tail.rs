// SPDX-License-Identifier: MIT OR Apache-2.0

//! The end of a recording that is to be continued.

use std::borrow::Cow;

use super::format::Format;

/// How a recording ends.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Bytes that are complete; what follows is left of a cue that was being written.
    pub length: u64,
    /// What to append before the next cue.
    pub missing: &'static str,
    /// Cues, or the number of the last one.
    pub count: u64,
    /// End of the last cue in milliseconds.
    pub end: u64,
}

/// Latest end of a cue in milliseconds: 10,000 hours. A later one is not a time, and sums with it could overflow.
const MAX_END: u64 = 10_000 * 3_600_000;
const TOO_LATE: &str = "a time of it is beyond 10,000 hours";

/// How `text`, a whole file, ends.
///
/// # Errors
/// What was expected, if it is not in `format`.
pub fn read(text: &[u8], format: Format) -> Result<Tail, &'static str> {
    let header = format.header();
    if text.len() < header.len() && header.as_bytes().starts_with(text) && !text.ends_with(b"WEBVTT") || text.is_empty()
    {
        return Ok(Tail {
            missing: header,
            ..Tail::default()
        });
    }
    check_head(text, format)?;
    match format {
        Format::JsonLines => json_lines(text),
        Format::Srt => cues(text, false, "it is not a SubRip file"),
        Format::Vtt => cues(text, is_ours(text), "it is not a WebVTT file"),
    }
}

/// How a file ends that begins with `head`, and has `end` from the byte `start` on. `None` if that has no cue.
///
/// # Errors
/// What was expected, if it is not in `format`.
pub fn read_end(head: &[u8], end: &[u8], start: u64, format: Format) -> Result<Option<Tail>, &'static str> {
    check_head(head, format)?;
    // The first cue may have begun before: the next one does after an empty line.
    let separators: &[&[u8]] = match format {
        Format::JsonLines => &[b"\n", b"\r"],
        Format::Srt | Format::Vtt => &[b"\n\n", b"\n\r\n", b"\r\r"],
    };
    let after = |separator: &&[u8]| {
        let position = end.windows(separator.len()).position(|window| window == *separator)?;
        Some(position + separator.len())
    };
    let Some(skipped) = separators.iter().filter_map(after).min() else {
        return Ok(None);
    };
    let tail = match format {
        Format::JsonLines => json_lines(&end[skipped..]),
        Format::Srt => cues(&end[skipped..], false, ""),
        Format::Vtt => cues(&end[skipped..], is_ours(head), ""),
    };
    match tail {
        Ok(tail) if tail.count > 0 => Ok(Some(Tail {
            length: start + skipped as u64 + tail.length,
            ..tail
        })),
        Err(TOO_LATE) => Err(TOO_LATE),
        // The whole file says what is wrong.
        _ => Ok(None),
    }
}

/// Checks the signature of a file.
fn check_head(text: &[u8], format: Format) -> Result<(), &'static str> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    match format {
        Format::Vtt if !text.starts_with(b"WEBVTT") => Err("it does not begin with WEBVTT"),
        _ => Ok(()),
    }
}

/// Whether a WebVTT file was begun by this program, whose cues all end with an empty line.
fn is_ours(text: &[u8]) -> bool {
    text.starts_with(Format::Vtt.header().trim_end().as_bytes())
}

/// A line without its end, and where it begins and what follows begins.
struct Line<'a> {
    start: usize,
    next: usize,
    text: Cow<'a, str>,
    /// It has an end.
    is_complete: bool,
    /// It ends within a character.
    is_torn: bool,
}

/// Lines end with LF, CR LF or, as WebVTT allows, CR.
fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let start = next;
        let rest = text.get(start..).filter(|rest| !rest.is_empty())?;
        let length = rest
            .iter()
            .position(|byte| b"\r\n".contains(byte))
            .unwrap_or(rest.len());
        let (contents, end) = rest.split_at(length);
        next += length
            + match end {
                [b'\r', b'\n', ..] => 2,
                [_, ..] => 1,
                [] => 0,
            };
        Some(Line {
            start,
            next,
            // Files of other programs may have another encoding.
            text: String::from_utf8_lossy(contents),
            is_complete: !end.is_empty(),
            is_torn: std::str::from_utf8(contents).is_err_and(|error| error.error_len().is_none()),
        })
    })
}

/// A block between empty lines.
#[derive(Default)]
struct Block<'a> {
    /// Where it begins.
    start: usize,
    /// Its first line.
    first: Cow<'a, str>,
    /// The end of its cue, if it has a line of times.
    end: Option<u64>,
    /// Whether its cue has text.
    has_text: bool,
}

/// Blocks between empty lines; those with a line of times are cues. `is_ours` if each cue ends with an empty line.
fn cues(text: &[u8], is_ours: bool, expected: &'static str) -> Result<Tail, &'static str> {
    let mut tail = Tail {
        length: text.len() as u64,
        ..Tail::default()
    };
    let mut block = Block::default();
    let (mut last_is_complete, mut is_torn) = (true, false);
    for line in lines(text) {
        (last_is_complete, is_torn) = (line.is_complete, line.is_torn);
        if line.text.trim().is_empty() && line.is_complete {
            tail.add(&block);
            block = Block {
                start: line.next,
                ..Block::default()
            };
            continue;
        }
        if block.end.is_some() {
            block.has_text |= !line.text.trim().is_empty();
        } else if line.is_complete {
            block.end = end_time(&line.text);
            if block.end.is_some_and(|end| end > MAX_END) {
                return Err(TOO_LATE);
            }
        }
        if block.start == line.start {
            block.first = line.text;
        }
    }
    if block.start < text.len() {
        // After a CR, a LF belongs to the same end of a line.
        let is_ended = last_is_complete && !text.ends_with(b"\r");
        let missing = if is_ended { "\n" } else { "\n\n" };
        match block.end {
            // Other programs omit the empty line after the last cue, or the end of its last line, too.
            Some(_) if block.has_text && !is_ours && !is_torn => {
                tail.add(&block);
                tail.missing = missing;
            }
            // Only its header.
            _ if block.start == 0 && text.starts_with(b"WEBVTT") => tail.missing = missing,
            // A comment or a style.
            None if last_is_complete && !block.first.starts_with(|letter: char| letter.is_ascii_digit()) => {
                tail.missing = missing;
            }
            _ => tail.length = block.start as u64,
        }
    }
    // What is removed must be the beginning of a cue: at most a number, times and text.
    let is_known = tail.count > 0 || text.starts_with(b"WEBVTT") || is_torn_cue(&text[block.start..]);
    if is_known { Ok(tail) } else { Err(expected) }
}

impl Tail {
    /// Counts the cue of `block`, if it has one.
    fn add(&mut self, block: &Block) {
        if let Some(end) = block.end {
            self.count = block.first.trim().parse().unwrap_or(self.count.saturating_add(1));
            self.end = self.end.max(end);
        }
    }
}

/// Whether `text` may be the beginning of a SubRip cue.
fn is_torn_cue(text: &[u8]) -> bool {
    let mut lines = lines(text).map(|line| line.text);
    let is_number = |text: Cow<str>| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_time = |text: Cow<str>| text.bytes().all(|byte| b"0123456789:, ->".contains(&byte));
    lines.next().is_some_and(is_number) && lines.next().is_none_or(is_time)
}

/// The time after the arrow, in milliseconds, at most `u64::MAX`.
fn end_time(line: &str) -> Option<u64> {
    let (_, end) = line.split_once("-->")?;
    let end = end.split_whitespace().next()?;
    let (clock, milliseconds) = end.split_once(['.', ','])?;
    let number = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse().unwrap_or(u64::MAX))
    };
    let mut seconds = 0_u64;
    for part in clock.split(':') {
        seconds = seconds.saturating_mul(60).saturating_add(number(part)?);
    }
    Some(seconds.saturating_mul(1000).saturating_add(number(milliseconds)?))
}

fn json_lines(text: &[u8]) -> Result<Tail, &'static str> {
    let mut tail = Tail::default();
    for line in lines(text) {
        let object = serde_json::from_str::<serde_json::Value>(&line.text);
        let is_object = object.as_ref().is_ok_and(serde_json::Value::is_object);
        // Other programs omit the end of the last line.
        if !line.is_complete && !is_object {
            break;
        }
        tail.length = line.next as u64;
        if !line.is_complete {
            tail.missing = "\n";
        }
        if line.text.is_empty() {
            continue;
        }
        let object = object.map_err(|_| "a line of it is not a JSON object")?;
        let end = object["end"].as_u64().ok_or("a line of it has no end")?;
        if end > MAX_END {
            return Err(TOO_LATE);
        }
        tail.end = tail.end.max(end);
        tail.count += 1;
    }
    match tail.count == 0 && !text.starts_with(b"{") {
        true => Err("it is not a file of JSON objects"),
        false => Ok(tail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(length: usize, missing: &'static str, count: u64, end: u64) -> Result<Tail, &'static str> {
        Ok(Tail {
            length: length as u64,
            missing,
            count,
            end,
        })
    }

    #[test]
    fn files_of_other_programs_are_continued() {
        let vtt = b"WEBVTT - a title\r\n\r\nSTYLE\r\n::cue { color: red }\r\n\r\n01:02.500 --> 01:03.500 align:start\r\none\r\n";
        assert_eq!(read(vtt, Format::Vtt), tail(vtt.len(), "\n", 1, 63_500));
        let vtt = b"WEBVTT\r\r00:01.000 --> 00:02.000\rone\r\r00:02.000 --> 00:03.000\rtwo\r";
        assert_eq!(read(vtt, Format::Vtt), tail(vtt.len(), "\n\n", 2, 3_000));
        let expected = tail(vtt.len() + 100, "\n\n", 1, 3_000).map(Some);
        assert_eq!(read_end(vtt, &vtt[10..], 110, Format::Vtt), expected);
        let srt = b"7\n00:00:01,000 --> 01:00:02,000\none\ntwo\n";
        assert_eq!(read(srt, Format::Srt), tail(srt.len(), "\n", 7, 3_602_000));
        // Without the end of the last line, and in Latin-1.
        let srt = b"7\n00:00:01,000 --> 01:00:02,000\n\xfcber\nd\xe9j\xe0 vu";
        assert_eq!(read(srt, Format::Srt), tail(srt.len(), "\n\n", 7, 3_602_000));
        assert_eq!(read(b"{\"end\":5}", Format::JsonLines), tail(9, "\n", 1, 5));
    }

    #[test]
    fn a_header_is_completed() {
        assert_eq!(read(b"", Format::Vtt), tail(0, Format::Vtt.header(), 0, 0));
        assert_eq!(read(b"WEBV", Format::Vtt), tail(0, Format::Vtt.header(), 0, 0));
        assert_eq!(read(b"WEBVTT - x\n", Format::Vtt), tail(11, "\n", 0, 0));
        assert_eq!(read(b"WEBVTT\n\n", Format::Vtt), tail(8, "", 0, 0));
    }

    #[test]
    fn a_torn_cue_is_removed() {
        let complete = "WEBVTT - recorded by nemostt\n\n00:00:01.000 --> 00:00:02.000\none\n\n";
        for torn in [
            "0",
            "00:00:03.000 --> ",
            "00:00:03.000 --> 00:00:04.000\n",
            "00:00:03.000 --> 00:00:04.000\ntw",
            "00:00:03.000 --> 00:00:04.000\ntwo\n",
        ] {
            let text = [complete, torn].concat();
            assert_eq!(
                read(text.as_bytes(), Format::Vtt),
                tail(complete.len(), "", 1, 2_000),
                "{torn}"
            );
        }
        assert_eq!(read(b"1\n00:00:0", Format::Srt), tail(0, "", 0, 0));
        // Within a character.
        let srt = b"1\n00:00:01,000 --> 00:00:02,000\nd\xc3";
        assert_eq!(read(srt, Format::Srt), tail(0, "", 0, 0));
        assert_eq!(read(b"{\"end\":5}\n{\"e", Format::JsonLines), tail(10, "", 1, 5));
    }
}

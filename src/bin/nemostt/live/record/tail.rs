// SPDX-License-Identifier: MIT OR Apache-2.0

//! The end of a recording that is to be continued.

use super::format::Format;

/// How a recording ends.
#[derive(Debug, PartialEq, Eq)]
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

/// How `text` ends.
///
/// # Errors
/// What was expected, if it is not in `format`.
pub fn read(text: &[u8], format: Format) -> Result<Tail, &'static str> {
    let header = format.header();
    if text.len() < header.len() && header.as_bytes().starts_with(text) || text.is_empty() {
        return Ok(Tail {
            length: 0,
            missing: header,
            count: 0,
            end: 0,
        });
    }
    match format {
        Format::JsonLines => json_lines(text),
        Format::Srt => cues(text, "it is not a SubRip file"),
        Format::Vtt => match text
            .strip_prefix(b"\xef\xbb\xbf")
            .unwrap_or(text)
            .starts_with(b"WEBVTT")
        {
            true => cues(text, "it is not a WebVTT file"),
            false => Err("it does not begin with WEBVTT"),
        },
    }
}

/// A line without its end, and where it begins and what follows begins.
struct Line<'a> {
    start: usize,
    next: usize,
    text: &'a str,
    /// It has an end.
    is_complete: bool,
}

fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let mut next = 0;
    text.split_inclusive(|&byte| byte == b'\n').map(move |line| {
        let start = next;
        next += line.len();
        Line {
            start,
            next,
            // A line that is torn within a character has no end.
            text: std::str::from_utf8(line)
                .unwrap_or_default()
                .trim_end_matches(['\r', '\n']),
            is_complete: line.ends_with(b"\n"),
        }
    })
}

/// Blocks between empty lines; those with a line of times are cues.
fn cues(text: &[u8], expected: &'static str) -> Result<Tail, &'static str> {
    let mut tail = Tail {
        length: 0,
        missing: "",
        count: 0,
        end: 0,
    };
    // Of the current block: where it begins, its first line, the end of its cue, and whether that has text.
    let (mut start, mut first, mut end, mut has_text) = (0, "", None, false);
    let mut last_is_complete = true;
    for line in lines(text) {
        last_is_complete = line.is_complete;
        if line.text.trim().is_empty() && line.is_complete {
            if let Some(end) = end {
                tail.count = first.trim().parse().unwrap_or(tail.count + 1);
                tail.end = tail.end.max(end);
            }
            (start, first, end, has_text) = (line.next, "", None, false);
            continue;
        }
        if start == line.start {
            first = line.text;
        }
        match end {
            None => end = end_time(line.text).filter(|_| line.is_complete),
            Some(_) => has_text |= line.is_complete,
        }
    }
    tail.length = text.len() as u64;
    if start < text.len() {
        match end {
            // Complete, but for the empty line after it. Other programs omit that at the end.
            Some(end) if has_text && last_is_complete => {
                tail.count = first.trim().parse().unwrap_or(tail.count + 1);
                tail.end = tail.end.max(end);
                tail.missing = "\n";
            }
            // Only its header.
            _ if start == 0 && text.starts_with(b"WEBVTT") => {
                tail.missing = if last_is_complete { "\n" } else { "\n\n" }
            }
            // A comment or a style.
            None if last_is_complete && !first.starts_with(|letter: char| letter.is_ascii_digit()) => {
                tail.missing = "\n"
            }
            _ => tail.length = start as u64,
        }
    }
    // What is removed must be the beginning of a cue: at most a number, times and text.
    let is_known = tail.count > 0 || text.starts_with(b"WEBVTT") || is_torn_cue(&text[start..]);
    if is_known { Ok(tail) } else { Err(expected) }
}

/// Whether `text` may be the beginning of a SubRip cue.
fn is_torn_cue(text: &[u8]) -> bool {
    let mut lines = lines(text).map(|line| line.text);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_time = |text: &str| text.bytes().all(|byte| b"0123456789:, ->".contains(&byte));
    lines.next().is_some_and(is_number) && lines.next().is_none_or(is_time)
}

/// The time after the arrow, in milliseconds.
fn end_time(line: &str) -> Option<u64> {
    let (_, end) = line.split_once("-->")?;
    let end = end.split_whitespace().next()?;
    let (clock, milliseconds) = end.split_once(['.', ','])?;
    let mut seconds = 0_u64;
    for part in clock.split(':') {
        seconds = seconds.checked_mul(60)?.checked_add(part.parse().ok()?)?;
    }
    seconds.checked_mul(1000)?.checked_add(milliseconds.parse().ok()?)
}

fn json_lines(text: &[u8]) -> Result<Tail, &'static str> {
    let mut tail = Tail {
        length: 0,
        missing: "",
        count: 0,
        end: 0,
    };
    for line in lines(text).filter(|line| line.is_complete) {
        tail.length = line.next as u64;
        if line.text.is_empty() {
            continue;
        }
        let object: serde_json::Value =
            serde_json::from_str(line.text).map_err(|_| "a line of it is not a JSON object")?;
        let end = object["end"].as_u64().ok_or("a line of it has no end")?;
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
        let srt = b"7\n00:00:01,000 --> 01:00:02,000\none\ntwo\n";
        assert_eq!(read(srt, Format::Srt), tail(srt.len(), "\n", 7, 3_602_000));
    }

    #[test]
    fn a_header_is_completed() {
        assert_eq!(read(b"", Format::Vtt), tail(0, "WEBVTT\n\n", 0, 0));
        assert_eq!(read(b"WEBV", Format::Vtt), tail(0, "WEBVTT\n\n", 0, 0));
        assert_eq!(read(b"WEBVTT - x\n", Format::Vtt), tail(11, "\n", 0, 0));
        assert_eq!(read(b"WEBVTT\n\n", Format::Vtt), tail(8, "", 0, 0));
    }

    #[test]
    fn a_torn_cue_is_removed() {
        let complete = "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\none\n\n";
        for torn in [
            "0",
            "00:00:03.000 --> ",
            "00:00:03.000 --> 00:00:04.000\n",
            "00:00:03.000 --> 00:00:04.000\ntw",
        ] {
            let text = [complete, torn].concat();
            assert_eq!(
                read(text.as_bytes(), Format::Vtt),
                tail(complete.len(), "", 1, 2_000),
                "{torn}"
            );
        }
        assert_eq!(read(b"1\n00:00:0", Format::Srt), tail(0, "", 0, 0));
        assert_eq!(read(b"{\"end\":5}\n{\"e", Format::JsonLines), tail(10, "", 1, 5));
    }
}

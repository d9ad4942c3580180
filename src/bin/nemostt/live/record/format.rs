// SPDX-License-Identifier: MIT OR Apache-2.0

//! The formats of a recording.

use std::path::Path;

use nemostt::cues::Cue;

use crate::{
    cues,
    live::caption::{Caption, TimedWord},
};

/// The header of our files, by which a cue that is torn can be told from one of another program: ours end with an empty line.
const VTT_HEADER: &str = "WEBVTT - recorded by nemostt\n\n";

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// WebVTT.
    Vtt,
    /// SubRip.
    Srt,
    /// One JSON object per line.
    JsonLines,
}

impl Format {
    /// The format that the extension of `path` names.
    ///
    /// # Errors
    /// What is expected.
    pub fn of(path: &Path) -> Result<Self, String> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("vtt") => Ok(Self::Vtt),
            Some("srt") => Ok(Self::Srt),
            Some("jsonl") => Ok(Self::JsonLines),
            _ => Err("expected a file name that ends with .vtt, .srt or .jsonl".into()),
        }
    }

    /// What is before the first cue.
    pub fn header(self) -> &'static str {
        match self {
            Self::Vtt => VTT_HEADER,
            Self::Srt | Self::JsonLines => "",
        }
    }

    /// A cue with an empty line after it, which shows that it is complete.
    pub fn cue(self, cue: &Cue, number: u64) -> String {
        match self {
            Self::Srt => format!("{number}\n{}\n", cues::srt(cue)),
            Self::Vtt | Self::JsonLines => format!("{}\n", cues::vtt(cue)),
        }
    }
}

/// `caption` as a line, `offset` milliseconds later.
pub fn json_line(caption: &Caption, offset: u64) -> String {
    let later = |word: &TimedWord| TimedWord {
        start: word.start.saturating_add(offset),
        end: word.end.saturating_add(offset),
        ..word.clone()
    };
    let caption = Caption {
        start: caption.start.saturating_add(offset),
        end: caption.end.saturating_add(offset),
        words: caption.words.iter().map(later).collect(),
        ..caption.clone()
    };
    // Serializing strings and numbers cannot fail.
    serde_json::to_string(&caption).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_names_the_format() {
        let of = |path: &str| Format::of(Path::new(path)).ok();
        assert_eq!(of("a/b.vtt"), Some(Format::Vtt));
        assert_eq!(of("b.SRT"), Some(Format::Srt));
        assert_eq!(of("b.jsonl"), Some(Format::JsonLines));
        assert_eq!([of("b.txt"), of("vtt"), of("-")], [None, None, None]);
    }
}

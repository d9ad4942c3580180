// SPDX-License-Identifier: MIT OR Apache-2.0

//! The command line of `nemostt transcribe`.

use std::path::PathBuf;

use clap::Args;

use super::output::Format;
use crate::{
    audio::{Channel, Location, TrackName, TrackSelection},
    model_args::ModelArguments,
};

/// Write down what is said in files of any audio or video format
///
/// GStreamer decodes them, whatever their rate and number of channels. Several files are heard at once, and their texts
/// come in the order in which the files are named; a file that fails does not stop the others, and makes the exit code 1.
/// So does a file that is cut short, after the text of what is there. An output file appears when it is complete, never
/// before.
///
/// A source that does not end by itself, such as a camera or a microphone, ends with Ctrl-C: what was said until then is
/// written.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Transcribe {
    /// Audio or video files, URLs such as https://… or rtsp://…, or `-` for standard input
    ///
    /// Any URL will do that GStreamer has a source for. Standard input is a file of any format, decoded as it comes, or raw
    /// 16-bit little-endian mono samples at 16 kHz: its first bytes tell. A file whose name is `-` is `./-`.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,

    #[command(flatten)]
    pub model: ModelArguments,

    /// Audio to hear beyond a sound before deciding on it, in milliseconds [default: the model's own]
    #[arg(long, value_name = "MS")]
    pub lookahead: Option<u32>,

    /// Language of the speech, such as en-US, for multilingual models [default: the model finds out]
    #[arg(long, value_name = "CODE")]
    pub language: Option<String>,

    /// Silence to add after the end, in milliseconds; helps when the last word is cut off
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub eos_padding: u32,

    /// Audio track to transcribe, by its number from 1 or its language such as en or eng [default: the one the file marks,
    /// else the first]
    #[arg(long, value_name = "N|LANG")]
    audio_track: Option<TrackName>,

    /// Channel to transcribe alone: left, right, or its number from 1 [default: the mean of all]
    #[arg(long, value_name = "N|left|right")]
    channel: Option<Channel>,

    /// Take standard input for raw samples even if it looks like a file of some format
    #[arg(long)]
    pub raw: bool,

    #[command(flatten)]
    format: FormatFlags,

    /// Write to this file instead of standard output, which is `-`
    #[arg(short, long, value_name = "FILE", conflicts_with = "output_dir")]
    pub output: Option<PathBuf>,

    /// Write one file for each input into this directory: talk.mp4 becomes talk.srt
    #[arg(long, value_name = "DIR", value_parser = crate::directory())]
    pub output_dir: Option<PathBuf>,

    /// Files to hear at once, each with a copy of the model in memory [default: cores divided by the model's threads]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,

    /// Say on standard error how long it took
    #[arg(long)]
    pub stats: bool,
}

const EXAMPLES: &str = "\
Examples:
  nemostt transcribe talk.mp4
  nemostt transcribe --srt --output-dir subtitles *.mkv
  ffmpeg -i talk.avi -f wav - | nemostt transcribe -
  nemostt transcribe --audio-track de --channel left https://example.org/film.mkv
  arecord -t raw -f S16_LE -r 16000 | nemostt transcribe --lookahead 480 -";

/// At most one of these; none of them means plain text.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct FormatFlags {
    /// One line per word: start and end in seconds, confidence, word
    #[arg(long)]
    words: bool,

    /// One JSON document per file
    #[arg(long)]
    json: bool,

    /// SubRip subtitles
    #[arg(long)]
    srt: bool,

    /// WebVTT subtitles
    #[arg(long)]
    vtt: bool,
}

impl Transcribe {
    /// What is named, in its order.
    pub fn places(&self) -> Vec<Location> {
        self.files.iter().map(|file| Location::of(file)).collect()
    }

    /// What to take of each.
    pub fn wanted(&self) -> TrackSelection {
        TrackSelection {
            track: self.audio_track.clone(),
            channel: self.channel,
            raw: self.raw,
        }
    }

    pub fn format(&self) -> Format {
        match &self.format {
            FormatFlags { words: true, .. } => Format::Words,
            FormatFlags { json: true, .. } => Format::Json,
            FormatFlags { srt: true, .. } => Format::Srt,
            FormatFlags { vtt: true, .. } => Format::Vtt,
            _ => Format::Text,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        transcribe: Transcribe,
    }

    fn parse(line: &str) -> Result<Transcribe, clap::Error> {
        Ok(Line::try_parse_from(line.split(' '))?.transcribe)
    }

    #[test]
    fn a_flag_picks_the_format() {
        let format = |line| parse(line).unwrap().format();
        assert_eq!(format("x a.wav"), Format::Text);
        assert_eq!(format("x --srt a.wav b.wav"), Format::Srt);
        assert_eq!(format("x --vtt -"), Format::Vtt);
    }

    #[test]
    fn contradictions_are_refused() {
        for line in [
            "x --srt --json a.wav",
            "x -o a.txt --output-dir b a.wav",
            "x --output-dir - a.wav",
            "x --jobs 0 a.wav",
            "x --srt",
            "x --audio-track english a.wav",
            "x --audio-track 0 a.wav",
            "x --channel middle a.wav",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}

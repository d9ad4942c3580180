// SPDX-License-Identifier: MIT OR Apache-2.0

//! The command line of `nemostt transcribe`.

use std::path::PathBuf;

use clap::Args;
use nemostt::BeamConfig;

use super::output::Format;
use crate::{
    audio::{Location, TrackSelection},
    cues::CueArguments,
    decoding_args::DecodingArguments,
    metrics_file::MetricsArguments,
    model_args::ModelArguments,
    speech_args::SpeechArguments,
    text_args::TextArguments,
    track_args::TrackArguments,
};

/// Transcribe audio and video files
///
/// GStreamer decodes them, so any format, sample rate and number of channels works. Several files are transcribed in
/// parallel, and their texts are printed in the order of the files on the command line. If a file fails, the others are
/// still transcribed and the exit code is 1. A truncated file is transcribed as far as it goes, with exit code 1. Output
/// files appear only when they are complete.
///
/// Ctrl-C ends a source that does not end by itself, such as a camera or a microphone. The text up to then is written.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Transcribe {
    /// Audio or video files, URLs such as https://… or rtsp://…, or `-` for standard input
    ///
    /// A URL can have any scheme that GStreamer has a source for. Standard input is a file of any format, decoded as it
    /// arrives, or raw 16-bit little-endian mono samples at 16 kHz; its first bytes decide. Use `./-` for a file named `-`.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,

    #[command(flatten)]
    pub model: ModelArguments,

    #[command(flatten)]
    pub speech: SpeechArguments,

    #[command(flatten)]
    pub text: TextArguments,

    /// Silence in milliseconds to append, which helps if the last word is cut off
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub eos_padding: u32,

    #[command(flatten)]
    track: TrackArguments,

    /// Treat standard input as raw samples even if it looks like an audio or video file
    #[arg(long)]
    pub raw: bool,

    #[command(flatten)]
    format: FormatFlags,

    #[command(flatten)]
    pub cues: CueArguments,

    #[command(flatten)]
    pub decoding: DecodingArguments,

    /// Most transcripts in the JSON document, with --decoding-method beam
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=BeamConfig::MAX_SIZE as i64),
        help_heading = "Decoding"
    )]
    n_best: Option<u16>,

    /// Write to this file; `-` is standard output, the default
    #[arg(short, long, value_name = "FILE", conflicts_with = "output_dir")]
    pub output: Option<PathBuf>,

    /// Write one file per input into this directory, such as talk.srt for talk.mp4
    #[arg(long, value_name = "DIR", value_parser = crate::directory())]
    pub output_dir: Option<PathBuf>,

    /// Files to transcribe in parallel. They share a model that computes streams together; otherwise each has its own copy in
    /// memory [default: as many as gain from it, at most 16 or, if more, one per core; cores divided by threads without sharing]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,

    /// Print duration and real-time factor on standard error
    #[arg(long)]
    pub stats: bool,

    #[command(flatten)]
    pub metrics: MetricsArguments,
}

const EXAMPLES: &str = "\
Examples:
  nemostt transcribe talk.mp4
  nemostt transcribe --srt --output-dir subtitles *.mkv
  ffmpeg -i talk.avi -f wav - | nemostt transcribe -
  nemostt transcribe --audio-track de --channel left https://example.org/film.mkv
  arecord -t raw -f S16_LE -r 16000 | nemostt transcribe --lookahead 480 -";

/// At most one of these. Without any, the output is plain text.
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
    /// Checks options that say how tokens are chosen.
    ///
    /// # Errors
    /// One line that names the option, and what is possible.
    pub fn check_decoding(&self) -> Result<(), String> {
        if self.n_best.is_some() {
            self.decoding.check_beam("--n-best")?;
            if self.format() != Format::Json {
                return Err("--n-best applies to the JSON document: add --json".into());
            }
        }
        self.decoding.check()
    }

    /// Most transcripts of an utterance, if the command line says so.
    pub fn n_best(&self) -> Option<usize> {
        self.n_best.map(usize::from)
    }

    /// The inputs, in the order of the command line.
    pub fn locations(&self) -> Vec<Location> {
        self.files.iter().map(|file| Location::of(file)).collect()
    }

    /// The track and channel to transcribe.
    pub fn selection(&self) -> TrackSelection {
        self.track.selection(self.raw)
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

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The command line.

use std::path::PathBuf;

use clap::{
    Args, Parser,
    builder::{PossibleValuesParser, TypedValueParser},
};
use gstnemostt::{DecoderKind, Device, Options};

use crate::output::Format;

/// Writes down what is said in a WAV file, or in raw audio from standard input.
#[derive(Debug, Parser)]
#[command(name = "transcribe")]
pub struct Arguments {
    /// WAV file, or `-` for raw 16-bit little-endian mono samples at the model's rate (16 kHz) from standard input
    pub file: PathBuf,

    /// Model directory [default: $NEMOSTT_MODEL, else the built-in demonstration model]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,

    /// Audio to hear beyond a sound before deciding on it, in milliseconds [default: the model's own]
    #[arg(long, value_name = "MS")]
    lookahead: Option<u32>,

    /// Decoder
    #[arg(long, default_value = "auto", value_parser = PossibleValuesParser::new(["auto", "rnnt", "ctc"]).map(decoder))]
    decoder: DecoderKind,

    /// Where the model runs
    #[arg(long, default_value = "auto", value_parser = PossibleValuesParser::new(["auto", "cpu", "cuda"]).map(device))]
    device: Device,

    /// Threads within one operation; 0: one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,

    /// Silence to add after the end, in milliseconds; helps when the last word is cut off
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub eos_padding: u32,

    #[command(flatten)]
    format: FormatFlags,

    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Say on standard error how long it took
    #[arg(long)]
    pub stats: bool,
}

/// At most one of these; none of them means plain text.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct FormatFlags {
    /// One line per word: start and end in seconds, confidence, word
    #[arg(long)]
    words: bool,

    /// One JSON document
    #[arg(long)]
    json: bool,

    /// SubRip subtitles
    #[arg(long)]
    srt: bool,

    /// WebVTT subtitles
    #[arg(long)]
    vtt: bool,
}

impl Arguments {
    /// The model directory, if one is named here or in the environment.
    pub fn model(&self) -> Option<PathBuf> {
        let environment = || std::env::var_os("NEMOSTT_MODEL").filter(|path| !path.is_empty());
        self.model.clone().or_else(|| environment().map(PathBuf::from))
    }

    /// How to load it.
    pub fn options(&self) -> Options {
        Options {
            lookahead: self.lookahead,
            decoder: self.decoder,
            device: self.device,
            threads: self.threads,
            ..Default::default()
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

fn decoder(name: String) -> DecoderKind {
    match name.as_str() {
        "rnnt" => DecoderKind::Rnnt,
        "ctc" => DecoderKind::Ctc,
        _ => DecoderKind::Auto,
    }
}

fn device(name: String) -> Device {
    match name.as_str() {
        "cpu" => Device::Cpu,
        "cuda" => Device::Cuda,
        _ => Device::Auto,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_become_options() {
        let line = "transcribe --lookahead 80 --decoder ctc --device cpu --threads 2 --srt x.wav";
        let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
        let expected = Options {
            lookahead: Some(80),
            decoder: DecoderKind::Ctc,
            device: Device::Cpu,
            threads: 2,
            ..Default::default()
        };
        assert_eq!((arguments.options(), arguments.format()), (expected, Format::Srt));
    }

    #[test]
    fn two_formats_at_once_are_refused() {
        assert!(Arguments::try_parse_from(["transcribe", "--srt", "--json", "x.wav"]).is_err());
    }
}

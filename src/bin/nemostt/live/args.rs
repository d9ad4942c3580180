// SPDX-License-Identifier: MIT OR Apache-2.0

//! The command line of `nemostt live`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, value_parser};

#[cfg(feature = "serve")]
use super::serve::ServeArguments;
use super::source::MICROPHONE;
use crate::{
    audio::TrackSelection, cues::CueArguments, decoding_args::DecodingArguments, model_args::ModelArguments,
    speech_args::SpeechArguments, text_args::TextArguments, track_args::TrackArguments,
};

/// Caption a microphone, a camera or a stream
///
/// Captions appear in the terminal as they are spoken: the last line is what is being said, and may still change. If standard
/// output is not a terminal, only final lines are printed. Files play in real time, so that their captions appear as the sound
/// would.
///
/// A connection that is lost, or that sends no audio for some time, is opened again; times go on. Ctrl-C ends the session: what
/// was said until then is written.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Live {
    /// `mic` for the default microphone, mic:NAME for another one (a part of its name is enough), a URL such as rtsp://…,
    /// https://… (also HLS) or srt://…, a file, or `-` for standard input
    ///
    /// Standard input is a file of any format, or raw 16-bit little-endian mono samples at 16 kHz. A file named mic is ./mic.
    #[arg(value_name = "SOURCE", default_value = MICROPHONE)]
    pub source: PathBuf,

    #[command(flatten)]
    pub model: ModelArguments,

    #[command(flatten)]
    pub speech: SpeechArguments,

    #[command(flatten)]
    pub text: TextArguments,

    #[command(flatten)]
    pub decoding: DecodingArguments,

    #[command(flatten)]
    track: TrackArguments,

    /// End when the connection is lost
    #[arg(long)]
    pub no_reconnect: bool,

    /// Seconds without audio after which a connection counts as lost
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = value_parser!(u32).range(1..=3600))]
    reconnect_timeout: u32,

    /// Append what is said to this file: WebVTT (.vtt), SubRip (.srt) or one JSON object per utterance (.jsonl), as its
    /// extension says. A file that exists is continued, and its times go on
    #[arg(long, value_name = "FILE", value_parser = crate::file())]
    pub record: Option<PathBuf>,

    /// Write the source's own picture and sound with captions into this directory, as HTTP Live Streaming: players open master.m3u8
    ///
    /// H.264 video, and AAC or MP3 audio, are passed through. Needs the GStreamer plugin hlssink3 of gst-plugins-rs. What an earlier
    /// session left in the directory is removed.
    #[arg(long, value_name = "DIR")]
    pub hls: Option<PathBuf>,

    #[command(flatten)]
    pub cues: CueArguments,

    #[cfg(feature = "serve")]
    #[command(flatten)]
    pub serve: ServeArguments,
}

const EXAMPLES: &str = "\
Examples:
  nemostt live
  nemostt live rtsp://camera.local/stream
  nemostt live --record meeting.vtt mic:USB
  nemostt live --hls /var/www/html/live rtsp://camera.local/stream
  nemostt live --lookahead 80 https://example.org/radio.mp3
  ffmpeg -i udp://:5000 -f wav - | nemostt live -";

impl Live {
    /// The track and channel to caption.
    pub fn selection(&self) -> TrackSelection {
        self.track.selection(false)
    }

    /// How long to wait for audio from a connection.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.reconnect_timeout.into())
    }
}

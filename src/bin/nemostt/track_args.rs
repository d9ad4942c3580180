// SPDX-License-Identifier: MIT OR Apache-2.0

//! The options that select a track and a channel.

use clap::Args;

use crate::audio::{Channel, TrackName, TrackSelection};

/// Which track and channel to transcribe.
#[derive(Debug, Clone, Args)]
pub struct TrackArguments {
    /// Audio track to transcribe: its number, from 1, or its language, such as en or eng [default: the default track of the
    /// source, else the first]
    #[arg(long, value_name = "N|LANG")]
    audio_track: Option<TrackName>,

    /// Transcribe only this channel: left, right, or its number, from 1 [default: the mean of all]
    #[arg(long, value_name = "N|left|right")]
    channel: Option<Channel>,
}

impl TrackArguments {
    /// The selection; `raw` if standard input is raw samples, whatever its first bytes are.
    pub fn selection(&self, raw: bool) -> TrackSelection {
        TrackSelection {
            track: self.audio_track.clone(),
            channel: self.channel,
            raw,
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! What happens in a session, in the order in which the main thread acts on it.

use std::time::Duration;

use super::{caption::Caption, hls};
use crate::audio::{Failure, SourceError};

/// Something that happened.
pub enum Event {
    /// The model is loaded.
    Loaded,
    /// There is audio.
    Listening,
    /// The connection was lost, and will be opened again in a while.
    Reconnecting {
        reason: String,
        wait: Duration,
    },
    Caption(Caption),
    /// All captions that begin before this time of the session have been received.
    Settled(Duration),
    /// With `--hls`: something about the media.
    Media(hls::Update),
    /// The latency of the captions' pipeline changed.
    Latency,
    /// Something that users should know.
    Notice(String),
    /// No more samples come: the source has ended, or why it cannot be opened.
    SourceEnded(Result<(), SourceError>),
    /// All captions have been received.
    CaptionsEnded,
    /// There will be no captions.
    Failed(String),
}

/// `error` as one of a source. Those that GStreamer did not report do not go away by themselves.
pub fn source_error(error: Box<dyn std::error::Error>) -> SourceError {
    match error.downcast::<SourceError>() {
        Ok(error) => *error,
        Err(error) => SourceError {
            message: error.to_string(),
            failure: Failure::Permanent,
        },
    }
}

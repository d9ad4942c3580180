// SPDX-License-Identifier: MIT OR Apache-2.0

//! What becomes known of the media, in the order in which the main thread acts on it.

use std::time::Duration;

use super::{playlist::Format, timelines::Anchor};

/// What becomes known.
pub enum Update {
    /// Samples of a connection have a place in the session.
    Placed { connection: u32, anchor: Anchor },
    /// A segment was written, or will be within moments.
    Segment(MediaSegment),
    /// A connection is over. There are no captions of what is after the running time `until`, if it is given.
    Ended { connection: u32, until: Option<Duration> },
}

/// A segment of the media.
#[derive(Debug, Clone)]
pub struct MediaSegment {
    pub connection: u32,
    pub file: String,
    /// Running time in the connection.
    pub start: Duration,
    pub duration: Duration,
    pub format: Format,
}

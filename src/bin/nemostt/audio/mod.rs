// SPDX-License-Identifier: MIT OR Apache-2.0

//! Audio input: anything that GStreamer can decode, or raw samples on standard input.

mod bus_errors;
mod container_length;
mod detect_format;
mod feed;
mod gst_decoder;
mod language;
mod location;
mod pipe;
mod raw_pcm;
mod source_error;
mod source_setup;
mod stdin;
mod streams;
mod tap;
mod track;

use std::{sync::Arc, time::Duration};

use gst_decoder::GstDecoder;
pub use location::Location;
use raw_pcm::RawPcm;
pub use source_error::{Failure, SourceError};
pub use streams::interleave_queue;
pub use tap::{Tap, TapPads};
pub use track::{Channel, TrackName, TrackSelection};

use crate::Result;

/// Samples read at a time: 100 ms at 16 kHz, so that words appear soon after they were spoken.
const BLOCK: usize = 1600;

/// How a source of live captions is read: streams are buffered as little as possible.
#[derive(Clone, Default)]
pub struct Live {
    /// No data from a URL within this time is an error.
    pub timeout: Option<Duration>,
    /// Takes the encoded streams, too.
    pub tap: Option<Arc<dyn Tap>>,
}

/// A source of mono samples.
pub enum Input {
    /// Decoded by GStreamer. Boxed because it is much larger than the other variant.
    GstDecoder(Box<GstDecoder>),
    /// Raw 16-bit little-endian mono samples.
    RawPcm(RawPcm<stdin::Bytes>),
}

impl Input {
    /// Opens `location`, to be read at `rate` samples per second.
    pub fn open(location: &Location, rate: u32, selection: &TrackSelection) -> Result<Self> {
        Self::open_live(location, rate, selection, Live::default())
    }

    /// The same for captions of what is said now.
    pub fn open_live(location: &Location, rate: u32, selection: &TrackSelection, mut live: Live) -> Result<Self> {
        let declared = match location {
            Location::StandardInput => return stdin::open(rate, selection),
            Location::File(path) => {
                let head = container_length::head(path);
                container_length::check(&head, location)?;
                container_length::wav(&head)
            }
            Location::Url(_) => container_length::DeclaredLength::Unread,
        };
        live.timeout = live.timeout.filter(|_| matches!(location, Location::Url(_)));
        let decoded = GstDecoder::open_live(location, declared, rate, selection, live)?;
        Ok(Self::GstDecoder(Box::new(decoded)))
    }

    /// A notice about the tracks, if there is a choice.
    pub fn notice(&self) -> Option<&str> {
        match self {
            Self::GstDecoder(decoded) => decoded.notice(),
            Self::RawPcm(_) => None,
        }
    }

    /// Total number of samples, if known. An estimate for some formats.
    pub fn samples(&self) -> Option<u64> {
        match self {
            Self::GstDecoder(decoded) => decoded.samples(),
            Self::RawPcm(_) => None,
        }
    }

    /// End of the longest stream, in samples: in a movie, the video may be longer.
    pub fn reached(&self) -> Option<u64> {
        match self {
            Self::GstDecoder(decoded) => Some(decoded.reached()),
            Self::RawPcm(_) => None,
        }
    }

    /// Whether that number may be far off: for frames without a container, GStreamer extrapolates from a few.
    pub fn is_length_estimated(&self) -> bool {
        matches!(self, Self::GstDecoder(decoded) if decoded.is_length_estimated())
    }

    /// Whether samples arrive as they are recorded, so that they need not be paced.
    pub fn is_live(&self) -> bool {
        matches!(self, Self::GstDecoder(decoded) if decoded.is_live())
    }

    /// At the end: whether this is the end of a file, rather than that of a connection.
    pub fn is_complete(&self) -> bool {
        match self {
            Self::GstDecoder(decoded) => decoded.is_complete(),
            Self::RawPcm(_) => true,
        }
    }

    /// The error if there is no sample.
    pub fn no_samples_error(&self) -> String {
        match self {
            Self::GstDecoder(decoded) => decoded.no_samples_error(),
            Self::RawPcm(_) => "standard input is empty: the program before the pipe wrote no samples".into(),
        }
    }

    /// Whether any sample so far was not a number, or far too large. Such samples are read as silence.
    pub fn has_invalid_samples(&self) -> bool {
        matches!(self, Self::GstDecoder(decoded) if decoded.has_invalid_samples())
    }

    /// Replaces `mono` with the next samples, -1.0 to 1.0. It is empty at the end.
    pub fn read(&mut self, mono: &mut Vec<f32>) -> Result<()> {
        mono.clear();
        match self {
            Self::GstDecoder(decoded) => decoded.read(mono),
            Self::RawPcm(raw) => raw.read(mono),
        }
    }
}

/// How the contents of the file show that it is truncated, apart from its duration.
pub fn fault(location: &Location) -> Option<&'static str> {
    match location {
        Location::File(path) => container_length::fault(path),
        Location::StandardInput | Location::Url(_) => None,
    }
}

pub fn start_gstreamer() -> Result<()> {
    Ok(gst::init().map_err(|error| format!("GStreamer could not be initialized: {error}"))?)
}

/// Makes an element of GStreamer's core or base plugins.
pub fn element(name: &str) -> Result<gst::Element> {
    let element = gst::ElementFactory::make(name).build();
    Ok(element.map_err(|_| {
        format!("the GStreamer element {name} is missing; install gst-plugins-base (on Debian and Ubuntu: gstreamer1.0-plugins-base)")
    })?)
}

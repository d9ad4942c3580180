// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where samples come from: whatever GStreamer can decode, or raw samples on standard input.

mod bus_errors;
mod container_length;
mod detect_format;
mod feed;
mod gst_decoder;
mod language;
mod location;
mod pipe;
mod raw_pcm;
mod stdin;
mod streams;
mod track;

use gst_decoder::GstDecoder;
pub use location::Location;
use raw_pcm::RawPcm;
pub use track::{Channel, TrackName, TrackSelection};

use crate::Result;

/// Samples read at a time. At 16 kHz they last 100 ms, so that words appear soon after they were said.
const BLOCK: usize = 1600;

/// A source of mono samples.
pub enum Input {
    /// Decoded by GStreamer. Boxed, for it is far larger than the other.
    GstDecoder(Box<GstDecoder>),
    /// Raw 16-bit little-endian mono samples.
    RawPcm(RawPcm<stdin::Bytes>),
}

impl Input {
    /// Opens `place`, to give `rate` samples per second.
    pub fn open(place: &Location, rate: u32, wanted: &TrackSelection) -> Result<Self> {
        let promise = match place {
            Location::StandardInput => return stdin::open(rate, wanted),
            Location::File(path) => {
                let head = container_length::head(path);
                container_length::check(&head, place)?;
                container_length::wav(&head)
            }
            Location::Url(_) => container_length::DeclaredLength::Unread,
        };
        let decoded = GstDecoder::open(place, None, promise, rate, wanted)?;
        Ok(Self::GstDecoder(Box::new(decoded)))
    }

    /// What to say about the tracks that there are.
    pub fn notice(&self) -> Option<&str> {
        match self {
            Self::GstDecoder(decoded) => decoded.notice(),
            Self::RawPcm(_) => None,
        }
    }

    /// Samples in all, where that is known beforehand. An estimate for some formats.
    pub fn samples(&self) -> Option<u64> {
        match self {
            Self::GstDecoder(decoded) => decoded.samples(),
            Self::RawPcm(_) => None,
        }
    }

    /// Where the longest stream ended, in samples: in a film the pictures may go on.
    pub fn reached(&self) -> Option<u64> {
        match self {
            Self::GstDecoder(decoded) => Some(decoded.reached()),
            Self::RawPcm(_) => None,
        }
    }

    /// Whether that number of samples may be far from true: of frames without a container, GStreamer measures some only.
    pub fn is_length_estimated(&self) -> bool {
        matches!(self, Self::GstDecoder(decoded) if decoded.is_length_estimated())
    }

    /// What is said when there is not a single sample.
    pub fn emptiness(&self) -> String {
        match self {
            Self::GstDecoder(decoded) => decoded.emptiness(),
            Self::RawPcm(_) => "standard input is empty: the program before the pipe gave no samples".into(),
        }
    }

    /// Replaces `mono` by the next samples, -1.0 to 1.0; by none at the end.
    pub fn read(&mut self, mono: &mut Vec<f32>) -> Result<()> {
        mono.clear();
        match self {
            Self::GstDecoder(decoded) => decoded.read(mono),
            Self::RawPcm(raw) => raw.read(mono),
        }
    }
}

/// How the file itself shows, beside its length, that it was cut short.
pub fn fault(place: &Location) -> Option<&'static str> {
    match place {
        Location::File(path) => container_length::fault(path),
        Location::StandardInput | Location::Url(_) => None,
    }
}

fn start_gstreamer() -> Result<()> {
    Ok(gst::init().map_err(|error| format!("GStreamer could not be started: {error}"))?)
}

fn element(name: &str) -> Result<gst::Element> {
    let element = gst::ElementFactory::make(name).build();
    Ok(element.map_err(|_| {
        format!("GStreamer lacks its element {name}; install gst-plugins-base (on Debian and Ubuntu: gstreamer1.0-plugins-base)")
    })?)
}

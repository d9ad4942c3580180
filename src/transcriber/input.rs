// SPDX-License-Identifier: MIT OR Apache-2.0

//! A buffer or a gap on its way into the stream.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use super::{
    segment::Segment,
    timestamps::{Arrival, BYTES_PER_SAMPLE},
};

/// Contents of a buffer.
pub(super) type Bytes = gst::buffer::MappedBuffer<gst::buffer::Readable>;

/// What came, and where it says it belongs.
pub(super) struct Input {
    pub(super) pts: Option<gst::ClockTime>,
    pub(super) segment: Arc<Segment>,
    /// Whether more than the timestamp says that time jumped: a DISCONT flag, or that it is a GAP event.
    pub(super) confirmed: bool,
    pub(super) content: Content,
}

pub(super) enum Content {
    Audio(Bytes),
    /// Silence of this many samples.
    Gap(u64),
}

impl Input {
    /// Samples that it lasts for.
    pub(super) fn samples(&self) -> u64 {
        match &self.content {
            Content::Audio(bytes) => (bytes.len() / BYTES_PER_SAMPLE) as u64,
            Content::Gap(samples) => *samples,
        }
    }

    /// As it is placed.
    pub(super) fn arrival(&self) -> Arrival {
        Arrival {
            pts: self.pts,
            len: self.samples(),
            confirmed: self.confirmed,
            fingerprint: match &self.content {
                Content::Audio(bytes) => fingerprint(bytes),
                Content::Gap(_) => None,
            },
        }
    }
}

/// Tells buffers apart by their first bytes and their length. Buffers of silence are all alike.
fn fingerprint(bytes: &[u8]) -> Option<u64> {
    let start = &bytes[..bytes.len().min(4096)];
    if start.iter().all(|&byte| byte == 0) {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    bytes.len().hash(&mut hasher);
    start.hash(&mut hasher);
    Some(hasher.finish())
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The input: its format, and a buffer or gap that is about to enter the stream.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use super::{segment::Segment, timestamps::Arrival};

/// Sample rate of the sink pad; models with a different one are rejected.
pub(super) const SAMPLE_RATE: u32 = 16_000;
/// Bytes of one sample: S16LE, mono.
pub(super) const BYTES_PER_SAMPLE: usize = 2;

/// The caps of the sink pad.
pub(super) fn caps() -> gst::Caps {
    gst_audio::AudioCapsBuilder::new_interleaved()
        .format(gst_audio::AudioFormat::S16le)
        .rate(SAMPLE_RATE as i32)
        .channels(1)
        .build()
}

/// Contents of a buffer.
pub(super) type Bytes = gst::buffer::MappedBuffer<gst::buffer::Readable>;

/// A buffer or gap with its timestamp.
pub(super) struct Input {
    pub(super) pts: Option<gst::ClockTime>,
    pub(super) segment: Arc<Segment>,
    /// Whether something besides the timestamp confirms a jump in time: a DISCONT flag, or that this is a GAP event.
    pub(super) confirmed: bool,
    pub(super) content: Content,
}

pub(super) enum Content {
    Audio(Bytes),
    /// Silence of this many samples.
    Gap(u64),
}

impl Input {
    /// Length in samples.
    pub(super) fn samples(&self) -> u64 {
        match &self.content {
            Content::Audio(bytes) => (bytes.len() / BYTES_PER_SAMPLE) as u64,
            Content::Gap(samples) => *samples,
        }
    }

    /// What is needed to [place](super::timestamps::Timestamps::align) it.
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

/// Hash of a buffer's length and first bytes, to recognize one that is sent twice. `None` for silence, which is all
/// alike.
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

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Counts of what the element has done.

/// What the element has done since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SessionMetrics {
    /// Samples that were transcribed, with silence in place of short holes.
    pub(super) samples: u64,
    /// Chunks that were encoded and decoded.
    pub(super) steps: u64,
    pub(super) output: OutputMetrics,
}

/// What left the element.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct OutputMetrics {
    /// Final words.
    pub(super) words: u64,
    /// Utterances that have ended.
    pub(super) utterances: u64,
    /// Text buffers that came too late for their time.
    pub(super) late_texts: u64,
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! What streams have done.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a stream has done since it was created; [`Stream::reset`](crate::Stream::reset) and
/// [`Stream::restore`](crate::Stream::restore) take nothing back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamMetrics {
    /// Samples that it was given, without padding.
    pub samples: u64,
    /// Windows that it has encoded and decoded.
    pub steps: u64,
    /// Words that it has emitted.
    pub words: u64,
}

/// Counted by all streams of a model, without a lock. Nothing depends on these numbers, so they need no order.
#[derive(Debug, Default)]
pub(crate) struct StreamCounters {
    started: AtomicU64,
    samples: AtomicU64,
    words: AtomicU64,
    errors: AtomicU64,
}

impl StreamCounters {
    pub(crate) fn count_stream(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_samples(&self, samples: u64) {
        self.samples.fetch_add(samples, Ordering::Relaxed);
    }

    pub(crate) fn count_word(&self) {
        self.words.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Steps that failed.
    pub(crate) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Streams that were created.
    pub(crate) fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// Samples and words of all streams.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.samples.load(Ordering::Relaxed), self.words.load(Ordering::Relaxed))
    }
}

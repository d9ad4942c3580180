// SPDX-License-Identifier: MIT OR Apache-2.0

//! What others may read of a session without waiting for a step.

use super::{counters::SessionMetrics, delivery::ActiveSettings, timestamps::Moment};

/// The part of the session's state that queries and properties report, readable without the `session` lock.
#[derive(Debug, Default)]
pub(super) struct PublishedState {
    pub(super) active: ActiveSettings,
    pub(super) position: Option<Moment>,
    pub(super) metrics: SessionMetrics,
    /// Running time at which data last arrived.
    pub(super) last_data: Option<gst::ClockTime>,
    /// Whether upstream has sent a segment since the start, or since the last flush or EOS.
    pub(super) had_segment: bool,
    /// If not, the running time since which one has been missing.
    pub(super) no_segment_since: gst::ClockTime,
}

impl PublishedState {
    /// Starts to wait for a new segment at running time `now`.
    pub(super) fn await_segment(&mut self, now: Option<gst::ClockTime>) {
        self.had_segment = false;
        self.no_segment_since = now.unwrap_or_default();
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the streams of a model have done.

use std::time::Duration;

use nemostt_compiler::Precision;

use super::LaneMetrics;
use crate::device::Device;

/// What the streams of a loaded model have done so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineMetrics {
    /// The path that it was loaded from, or `embedded`.
    pub model: String,
    /// The device that it runs on.
    pub device: Device,
    /// Precision of most encoder weights.
    pub precision: Precision,
    /// Lookahead in milliseconds.
    pub lookahead_ms: u64,
    /// Streams at the moment.
    pub streams: usize,
    /// Streams that were ever created.
    pub streams_started: u64,
    /// Audio that all streams together were given.
    pub audio: Duration,
    /// Words that all streams together have emitted; those that were decoded again, after a snapshot was restored, count
    /// again.
    pub words: u64,
    /// Steps of streams that failed, whatever the reason. If a device fails, they are done again on the CPU; otherwise each is
    /// an error of its stream.
    pub errors: u64,
    /// Bytes of the encoder's caches, inputs and outputs of each stream: its slot. On a GPU, those of the caches in its two
    /// places. 0 if it runs in a session.
    pub bytes_per_stream: usize,
    /// Slots of streams that have ended, which are kept for others.
    pub spare_slots: usize,
    /// The steps of the encoder, by lane: a team of threads that computes the steps of a share of the streams. The first is
    /// that of the model's warm-up. If streams are computed one after the other, there is one, with batches of one job.
    pub lanes: Vec<LaneMetrics>,
}

/// The part of [`EngineMetrics`] that the encoder knows.
#[derive(Debug, Default)]
pub(crate) struct EncoderMetrics {
    pub(crate) streams: usize,
    pub(crate) bytes_per_stream: usize,
    pub(crate) spare_slots: usize,
    pub(crate) lanes: Vec<LaneMetrics>,
}

impl EngineMetrics {
    /// All lanes together. `max_pending` is that of the lane where it was the most.
    pub fn total(&self) -> LaneMetrics {
        let mut total = LaneMetrics::default();
        self.lanes.iter().for_each(|lane| total.merge(lane));
        total
    }

    /// Whether both are of the same model on the same device, as when a program has loaded it twice.
    pub(super) fn is_alike(&self, other: &Self) -> bool {
        let key = |engine: &Self| (engine.device, engine.precision, engine.lookahead_ms);
        self.model == other.model && key(self) == key(other)
    }

    /// Adds what `other` has counted, which [is alike](Self::is_alike).
    pub(super) fn merge(&mut self, other: &Self) {
        self.streams += other.streams;
        self.streams_started += other.streams_started;
        self.audio = self.audio.saturating_add(other.audio);
        self.words += other.words;
        self.errors += other.errors;
        self.bytes_per_stream = self.bytes_per_stream.max(other.bytes_per_stream);
        self.spare_slots += other.spare_slots;
        self.lanes.extend_from_slice(&other.lanes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(sizes: &[usize]) -> LaneMetrics {
        let mut lane = LaneMetrics::default();
        for &size in sizes {
            lane.expect_batches_of(size);
            lane.count_batch(size, Default::default(), Duration::from_millis(size as u64));
            (0..size).for_each(|_| lane.queue_delay.record(Duration::from_millis(3)));
        }
        lane
    }

    #[test]
    fn lanes_are_added_and_subtracted() {
        let engine = EngineMetrics {
            model: "m".into(),
            device: Device::Cpu,
            precision: Precision::Fp32,
            lookahead_ms: 80,
            streams: 1,
            streams_started: 2,
            audio: Duration::ZERO,
            words: 0,
            errors: 0,
            bytes_per_stream: 0,
            spare_slots: 0,
            lanes: vec![lane(&[1, 1]), lane(&[3])],
        };
        let total = engine.total();
        assert_eq!((total.batches, total.jobs), (3, 5));
        assert_eq!(total.batch_sizes, [2, 0, 1]);
        assert_eq!(total.mean_batch_size(), 5.0 / 3.0);
        assert_eq!(
            (total.queue_delay.count(), total.step_time.sum()),
            (5, Duration::from_millis(5))
        );
        assert_eq!(LaneMetrics::default().mean_batch_size(), 0.0);

        let since = total.since(&lane(&[1, 1]));
        assert_eq!((since.batches, since.jobs, since.mean_batch_size()), (1, 3, 3.0));
        assert_eq!(since.batch_sizes, [0, 0, 1]);
        assert_eq!(
            (since.step_time.count(), since.step_time.max()),
            (1, Duration::from_millis(3))
        );
        let mut other = engine.clone();
        other.merge(&engine);
        assert_eq!((other.streams, other.streams_started, other.lanes.len()), (2, 4, 4));
    }
}

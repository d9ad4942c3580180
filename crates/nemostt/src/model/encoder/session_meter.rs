// SPDX-License-Identifier: MIT OR Apache-2.0

//! Counts and times the steps of an encoder that runs in a session, as those of a lane with batches of one job.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use crate::{
    metrics::{EncoderMetrics, Failures, LaneMetrics},
    sync::lock,
};

/// See the [module](self). Streams of a session wait for each other inside of it, so that belongs to the time of a step.
#[derive(Debug, Default)]
pub(super) struct SessionMeter {
    streams: AtomicUsize,
    steps: Mutex<LaneMetrics>,
}

/// A stream of the session. It counts until it is dropped.
pub(super) struct MeteredStream(Arc<SessionMeter>);

impl SessionMeter {
    /// Counts a stream.
    pub(super) fn stream(self: &Arc<Self>) -> MeteredStream {
        self.streams.fetch_add(1, Ordering::Relaxed);
        lock(&self.steps).expect_batches_of(1);
        MeteredStream(self.clone())
    }

    pub(super) fn metrics(&self) -> EncoderMetrics {
        EncoderMetrics {
            streams: self.streams.load(Ordering::Relaxed),
            lanes: vec![lock(&self.steps).clone()],
            ..Default::default()
        }
    }

    /// Runs a step, and counts it.
    pub(super) fn measure<T, E>(&self, step: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let start = Instant::now();
        let result = step();
        let time = start.elapsed();
        let failures = Failures {
            batch: result.is_err(),
            retried_jobs: 0,
            failed_jobs: usize::from(result.is_err()),
        };
        lock(&self.steps).count_batch(1, failures, time);
        result
    }
}

impl MeteredStream {
    pub(super) fn meter(&self) -> &Arc<SessionMeter> {
        &self.0
    }
}

impl Drop for MeteredStream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_steps_are_counted() {
        let meter = Arc::new(SessionMeter::default());
        let streams = [meter.stream(), meter.stream()];
        assert_eq!(streams[0].meter().measure(|| Ok::<_, ()>(7)), Ok(7));
        assert_eq!(streams[1].meter().measure(|| Err::<(), _>("failed")), Err("failed"));
        let EncoderMetrics {
            streams: two, lanes, ..
        } = meter.metrics();
        assert_eq!((two, lanes[0].jobs, lanes[0].step_time.count()), (2, 2, 2));
        assert_eq!((lanes[0].failed_batches, lanes[0].failed_jobs), (1, 1));
        assert_eq!(lanes[0].batch_sizes, [2]);
        drop(streams);
        assert_eq!(meter.metrics().streams, 0);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a lane has done.

use std::time::Duration;

use super::Histogram;

/// How a batch failed. None of it: all jobs have a result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    /// Whether the batch failed as a whole.
    pub(crate) batch: bool,
    /// Jobs that ran again, alone.
    pub(crate) retried_jobs: usize,
    /// Jobs without a result.
    pub(crate) failed_jobs: usize,
}

/// Counts of a lane, which runs the jobs of streams in batches, since it was created. All are of the same moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LaneMetrics {
    /// Batches that are done, with those that failed.
    pub batches: u64,
    /// Jobs in these batches.
    pub jobs: u64,
    /// Batches of each size: of one job, of two, ...
    pub batch_sizes: Vec<u64>,
    /// How long each job waited, from when its stream submitted it until its batch began. Those that are pending do not count.
    pub queue_delay: Histogram,
    /// How long each batch took, with running its jobs again if it failed.
    pub step_time: Histogram,
    /// Batches that failed, because an operation panicked or the inputs of a stream are invalid. Those of several jobs ran
    /// again, job by job.
    pub failed_batches: u64,
    /// Jobs that ran again, alone, because their batch failed.
    pub retried_jobs: u64,
    /// Jobs that failed alone, too: the others of their batches have results.
    pub failed_jobs: u64,
    /// Jobs that wait for a batch. Those that run do not count.
    pub pending: usize,
    /// The most jobs that were pending at the same time; at least one, because each is for a moment.
    pub max_pending: usize,
}

impl LaneMetrics {
    /// Makes room for batches of up to this size, so that counting allocates nothing.
    pub(crate) fn expect_batches_of(&mut self, jobs: usize) {
        if jobs > self.batch_sizes.len() {
            self.batch_sizes.resize(jobs, 0);
        }
    }

    pub(crate) fn count_batch(&mut self, jobs: usize, failures: Failures, time: Duration) {
        self.batches += 1;
        self.step_time.record(time);
        self.jobs += jobs as u64;
        self.failed_batches += u64::from(failures.batch);
        self.retried_jobs += failures.retried_jobs as u64;
        self.failed_jobs += failures.failed_jobs as u64;
        if let Some(count) = jobs.checked_sub(1).and_then(|index| self.batch_sizes.get_mut(index)) {
            *count += 1;
        }
    }

    pub(crate) fn count_pending(&mut self, pending: usize) {
        self.pending = pending;
        self.max_pending = self.max_pending.max(pending);
    }

    /// Mean number of jobs in a batch; 0 without any.
    pub fn mean_batch_size(&self) -> f64 {
        match self.batches {
            0 => 0.0,
            batches => self.jobs as f64 / batches as f64,
        }
    }

    /// What was counted since these metrics were as `earlier`. `pending` and `max_pending` are those of now.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let sizes = self.batch_sizes.iter().enumerate();
        let before = |index: usize| earlier.batch_sizes.get(index).copied().unwrap_or_default();
        Self {
            batches: self.batches.saturating_sub(earlier.batches),
            jobs: self.jobs.saturating_sub(earlier.jobs),
            batch_sizes: sizes
                .map(|(index, count)| count.saturating_sub(before(index)))
                .collect(),
            queue_delay: self.queue_delay.since(&earlier.queue_delay),
            step_time: self.step_time.since(&earlier.step_time),
            failed_batches: self.failed_batches.saturating_sub(earlier.failed_batches),
            retried_jobs: self.retried_jobs.saturating_sub(earlier.retried_jobs),
            failed_jobs: self.failed_jobs.saturating_sub(earlier.failed_jobs),
            pending: self.pending,
            max_pending: self.max_pending,
        }
    }

    /// Adds what `other` has counted.
    pub(super) fn merge(&mut self, other: &Self) {
        self.batches += other.batches;
        self.jobs += other.jobs;
        self.expect_batches_of(other.batch_sizes.len());
        for (count, more) in self.batch_sizes.iter_mut().zip(&other.batch_sizes) {
            *count += more;
        }
        self.queue_delay.merge(&other.queue_delay);
        self.step_time.merge(&other.step_time);
        self.failed_batches += other.failed_batches;
        self.retried_jobs += other.retried_jobs;
        self.failed_jobs += other.failed_jobs;
        self.pending += other.pending;
        self.max_pending = self.max_pending.max(other.max_pending);
    }
}

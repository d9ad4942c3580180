// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a lane has done.

/// How a batch failed. None of it: all jobs have a result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Failures {
    /// Whether the batch failed as a whole.
    pub(super) batch: bool,
    /// Jobs that ran again, alone.
    pub(super) retried_jobs: usize,
    /// Jobs without a result.
    pub(super) failed_jobs: usize,
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
    pub(super) fn expect_batches_of(&mut self, jobs: usize) {
        if jobs > self.batch_sizes.len() {
            self.batch_sizes.resize(jobs, 0);
        }
    }

    pub(super) fn count_batch(&mut self, jobs: usize, failures: Failures) {
        self.batches += 1;
        self.jobs += jobs as u64;
        self.failed_batches += u64::from(failures.batch);
        self.retried_jobs += failures.retried_jobs as u64;
        self.failed_jobs += failures.failed_jobs as u64;
        if let Some(count) = jobs.checked_sub(1).and_then(|index| self.batch_sizes.get_mut(index)) {
            *count += 1;
        }
    }

    pub(super) fn count_pending(&mut self, pending: usize) {
        self.pending = pending;
        self.max_pending = self.max_pending.max(pending);
    }
}

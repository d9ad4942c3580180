// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a lane has done.

/// Counts of a lane, which runs the jobs of streams in batches, since it was created. All are of the same moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LaneMetrics {
    /// Batches that are done, with those that failed.
    pub batches: u64,
    /// Jobs in these batches.
    pub jobs: u64,
    /// Batches of each size: of one job, of two, ...
    pub batch_sizes: Vec<u64>,
    /// Batches that failed because an operation panicked. None of their jobs has a result.
    pub failed_batches: u64,
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

    pub(super) fn count_batch(&mut self, jobs: usize, failed: bool) {
        self.batches += 1;
        self.jobs += jobs as u64;
        self.failed_batches += u64::from(failed);
        if let Some(count) = jobs.checked_sub(1).and_then(|index| self.batch_sizes.get_mut(index)) {
            *count += 1;
        }
    }

    pub(super) fn count_pending(&mut self, pending: usize) {
        self.pending = pending;
        self.max_pending = self.max_pending.max(pending);
    }
}

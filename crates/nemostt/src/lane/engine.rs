// SPDX-License-Identifier: MIT OR Apache-2.0

//! What runs a batch. There is one engine in a lane: who holds it leads.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::BatchFailed;

/// Runs batches of jobs.
///
/// Calls come from whichever thread leads the lane, one at a time. What belongs to a thread, like the current context
/// of CUDA, must be set in each call. An executor must not use its own lane: it would wait for itself.
pub(crate) trait Executor: Send {
    /// Moves into the lane, and back to its owner. A small handle is best, because it moves a few times.
    type Job: Send;
    /// What comes of a job.
    type Output: Send;

    /// Runs one batch, of at least one job, the most urgent first. Pushes one result for each job, in their order;
    /// `results` is empty before.
    ///
    /// After a panic it is called again for the next batch, so its state must be usable then.
    fn run(&mut self, jobs: &mut [Self::Job], results: &mut Vec<Self::Output>);
}

/// The executor, and the batch that it runs.
pub(super) struct Engine<E: Executor> {
    executor: E,
    jobs: Vec<E::Job>,
    results: Vec<E::Output>,
    /// The slot of each job's owner.
    owners: Vec<usize>,
}

impl<E: Executor> Engine<E> {
    pub(super) fn new(executor: E) -> Self {
        Self {
            executor,
            jobs: Vec::new(),
            results: Vec::new(),
            owners: Vec::new(),
        }
    }

    /// Jobs in the batch.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn push(&mut self, job: E::Job, owner: usize) {
        self.jobs.push(job);
        self.owners.push(owner);
    }

    /// Runs the batch. Does not panic: the lane would be left without an engine.
    pub(super) fn run(&mut self) {
        let Self {
            executor,
            jobs,
            results,
            ..
        } = self;
        let returned = catch(|| executor.run(jobs, results)).is_some();
        if !returned || results.len() != jobs.len() {
            // Which result is whose is unknown.
            catch(|| results.clear());
        }
    }

    /// Whether the batch that has run failed.
    pub(super) fn has_failed(&self) -> bool {
        self.results.len() != self.jobs.len()
    }

    /// Takes out the batch that has run: the owners with their jobs and results.
    pub(super) fn take_batch(&mut self) -> impl Iterator<Item = (usize, E::Job, Result<E::Output, BatchFailed>)> {
        let mut results = self.results.drain(..);
        let jobs = self.owners.drain(..).zip(self.jobs.drain(..));
        jobs.map(move |(owner, job)| (owner, job, results.next().ok_or(BatchFailed)))
    }
}

/// The result of a call of foreign code, or `None` if it panics.
fn catch<T>(call: impl FnOnce() -> T) -> Option<T> {
    let result = catch_unwind(AssertUnwindSafe(call));
    // To drop what a panic carries may panic again, and what that one carries, too: this is where it ends.
    let drop_payload = |payload| catch_unwind(AssertUnwindSafe(move || drop(payload))).map_err(std::mem::forget);
    result.map_err(drop_payload).ok()
}

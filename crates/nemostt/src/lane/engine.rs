// SPDX-License-Identifier: MIT OR Apache-2.0

//! What runs a batch. There is one engine in a lane: who holds it leads.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    slice,
};

use super::JobFailed;
#[cfg(test)]
use super::state::Done;
use crate::metrics::Failures;

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
    /// `results` is empty before. With more or fewer results, the batch has failed.
    ///
    /// If it fails or panics, it is called again for each of its jobs alone. So it must leave its own state usable, and
    /// all that a job reads as it was, wherever it stops.
    fn run(&mut self, jobs: &mut [Self::Job], results: &mut Vec<Self::Output>);
}

/// The executor, and the batch that it runs.
pub(super) struct Engine<E: Executor> {
    executor: E,
    jobs: Vec<E::Job>,
    /// The slot of each job's owner.
    owners: Vec<usize>,
    /// What the executor returns. Empty otherwise; kept for its memory.
    returned: Vec<E::Output>,
    /// Of each job, after the batch.
    results: Vec<Result<E::Output, JobFailed>>,
    failures: Failures,
}

impl<E: Executor> Engine<E> {
    pub(super) fn new(executor: E) -> Self {
        Self {
            executor,
            jobs: Vec::new(),
            owners: Vec::new(),
            returned: Vec::new(),
            results: Vec::new(),
            failures: Failures::default(),
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

    /// Runs the batch, and its jobs one by one if it fails. Does not panic: the lane would be left without an engine.
    pub(super) fn run(&mut self) {
        let Self {
            executor,
            jobs,
            returned,
            results,
            ..
        } = self;
        self.failures = Failures::default();
        if attempt(executor, jobs, returned) {
            results.extend(returned.drain(..).map(Ok));
            return;
        }
        self.failures.batch = true;
        // What was alone would only fail again.
        self.failures.retried_jobs = if jobs.len() > 1 { jobs.len() } else { 0 };
        for job in jobs.iter_mut() {
            let has_result = self.failures.retried_jobs > 0 && attempt(executor, slice::from_mut(job), returned);
            self.failures.failed_jobs += usize::from(!has_result);
            results.push(returned.pop().ok_or(JobFailed));
        }
    }

    /// How the batch that has run failed.
    pub(super) fn failures(&self) -> Failures {
        self.failures
    }

    /// Takes out the batch that has run: the owners with their jobs and results.
    pub(super) fn take_batch(&mut self) -> impl Iterator<Item = (usize, E::Job, Result<E::Output, JobFailed>)> {
        let results = self.results.drain(..);
        let jobs = self.owners.drain(..).zip(self.jobs.drain(..));
        jobs.zip(results).map(|((owner, job), result)| (owner, job, result))
    }
}

/// What comes of a batch that is not in a lane.
#[cfg(test)]
pub(crate) fn run_batch<E: Executor>(executor: E, jobs: Vec<E::Job>) -> (E, Vec<Done<E>>) {
    let mut engine = Engine::new(executor);
    jobs.into_iter().for_each(|job| engine.push(job, 0));
    engine.run();
    let outcomes = engine.take_batch().map(|(_, job, result)| (job, result)).collect();
    (engine.executor, outcomes)
}

/// Whether the executor returns a result for each of these jobs. Otherwise `returned` is empty.
fn attempt<E: Executor>(executor: &mut E, jobs: &mut [E::Job], returned: &mut Vec<E::Output>) -> bool {
    let is_done = catch(|| executor.run(jobs, returned)).is_some() && returned.len() == jobs.len();
    if !is_done {
        // Which result is whose is unknown.
        catch(|| returned.clear());
    }
    is_done
}

/// The result of a call of foreign code, or `None` if it panics.
fn catch<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).map_err(forget_panic).ok()
}

/// Drops what a panic carries. That may panic again, and to drop what that one carries, too: this is where it ends.
pub(crate) fn forget_panic(payload: Box<dyn Any + Send>) {
    let dropped = catch_unwind(AssertUnwindSafe(move || drop(payload)));
    dropped.unwrap_or_else(std::mem::forget);
}

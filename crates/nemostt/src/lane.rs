// SPDX-License-Identifier: MIT OR Apache-2.0

//! Batches the jobs of many threads, for an executor that runs a batch in less time than its jobs one after the other.
//!
//! A stream's thread calls [`Submitter::run`], which moves the job into the lane and returns it with its result. The
//! lane has no thread and no timer of its own: it is *flat combining*. A thread that finds the lane idle becomes its
//! leader and runs a batch, so a stream that is alone pays for no thread switch. Jobs that arrive meanwhile wait: the
//! batch that runs is what gives the next one time to fill. After it, the leader wakes the owner of the most urgent
//! job, the next leader, and then the owners of the batch, each of which waits on a condition variable of its own.
//!
//! **Order.** The earliest deadline is first, and the first to arrive of equal ones. A leader forms its batch when it
//! is awake, from all that is pending then, so its own job need not be in it. A batch is never stopped: the most urgent
//! job waits for the running batch at most. [`Class`] sets deadlines so that no job starves.
//!
//! **No idle time.** The lane is idle with jobs pending only until the next leader is awake. If another thread submits
//! a job before, it leads at once, and the one that was chosen finds its job running or done, or waits for its next
//! turn. So no job depends on a particular thread, not even while that one waits for a core.
//!
//! **Backpressure.** `run` blocks, so each submitter has at most one job in the lane, and no queue can grow: there are
//! at most as many jobs as [`Limits::max_submitters`]. Too many streams are refused when they ask for a submitter, not
//! in the middle of their audio. There is no second limit, which would make urgent jobs wait outside for others that can
//! wait.
//!
//! **Failures.** If a batch of several jobs fails, because the executor panics or does not return a result for each of
//! them, the leader runs its jobs again, one by one. So only those that fail alone, too, go back to their owners with
//! [`JobFailed`]: the fault of one stream takes no other with it. A batch that fails takes as long as its jobs one after
//! the other.
//!
//! **Time.** The clock is read once for each job and twice for each batch, for [`LaneMetrics`]. Nothing depends on it: the
//! order is that of the deadlines.
//!
//! **Cost.** A job that is alone takes one lock before the batch and one after it. Memory is allocated for each
//! submitter when it is created, and for batches until the largest one has run. A leader wakes all owners of its batch
//! before it returns, and runs their jobs with the priority of its own thread.

mod clock;
mod deadline;
mod engine;
#[cfg(test)]
#[cfg(loom)]
mod model;
mod state;
mod sync;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;

use std::sync::{Arc, PoisonError};

pub use self::deadline::Class;
#[cfg(test)]
pub(crate) use self::engine::run_batch;
use self::{
    clock::Clock,
    engine::Engine,
    state::{Done, State},
    sync::{Condvar, Mutex, MutexGuard},
};
pub(crate) use self::{
    deadline::Deadline,
    engine::{Executor, forget_panic},
};
use crate::metrics::LaneMetrics;

/// How much a lane takes. Of each there is at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Jobs in a batch.
    pub(crate) max_batch: usize,
    /// Submitters at the same time, and so jobs in the lane.
    pub(crate) max_submitters: usize,
}

/// Why a job has no result: the executor panicked when it ran this job alone, or did not return one result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the job failed: an operation panicked")]
pub(crate) struct JobFailed;

/// Batches the jobs of its submitters: see the [module](self). Clones are handles of the same lane.
pub(crate) struct Lane<E: Executor>(Arc<Mutex<State<E>>>);

/// What a stream submits its jobs with, one after the other.
pub(crate) struct Submitter<E: Executor> {
    lane: Lane<E>,
    slot: usize,
    /// What this thread waits on.
    waker: Arc<Condvar>,
    /// Whom to wake after a batch. Empty otherwise; kept for its memory.
    wakers: Vec<Arc<Condvar>>,
}

/// How a wait ends.
enum Turn<E: Executor> {
    /// Another leader has run the job.
    Done(Done<E>),
    /// This thread leads.
    Lead(Box<Engine<E>>),
}

impl<E: Executor> Lane<E> {
    /// A lane for this executor, which is dropped with the last handle and submitter.
    pub(crate) fn new(executor: E, limits: Limits) -> Self {
        Self::with_clock(executor, limits, clock::monotonic())
    }

    /// As [`new`](Self::new), with the clock that times are measured with.
    fn with_clock(executor: E, limits: Limits, clock: Clock) -> Self {
        let limits = Limits {
            max_batch: limits.max_batch.max(1),
            max_submitters: limits.max_submitters.max(1),
        };
        Self(Arc::new(Mutex::new(State::new(executor, limits, clock))))
    }

    /// A submitter for a stream; `None` if [`Limits::max_submitters`] exist.
    pub(crate) fn submitter(&self) -> Option<Submitter<E>> {
        let waker = Arc::new(Condvar::new());
        let slot = self.lock().register(waker.clone())?;
        Some(Submitter {
            lane: self.clone(),
            slot,
            waker,
            wakers: Vec::new(),
        })
    }

    /// What the lane has done so far.
    pub(crate) fn metrics(&self) -> LaneMetrics {
        self.lock().metrics.clone()
    }

    /// Nothing panics with the lock held, because no foreign code runs then.
    fn lock(&self) -> MutexGuard<'_, State<E>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E: Executor> Submitter<E> {
    /// Blocks until the job has been in a batch. Hands the job back in any case.
    ///
    /// May run batches on this thread, of this job and of others.
    pub(crate) fn run(&mut self, job: E::Job, deadline: Deadline) -> (E::Job, Result<E::Output, JobFailed>) {
        let mut state = self.lane.lock();
        state.submit(self.slot, job, deadline);
        loop {
            let engine = match self.wait(state) {
                Turn::Done(done) => return done,
                Turn::Lead(engine) => engine,
            };
            if let Some(done) = self.lead(engine) {
                return done;
            }
            state = self.lane.lock();
        }
    }

    /// Waits until the job is done or this thread leads. Releases the lock.
    fn wait<'a>(&'a self, mut state: MutexGuard<'a, State<E>>) -> Turn<E> {
        loop {
            if let Some(done) = state.take_done(self.slot) {
                return Turn::Done(done);
            }
            // Not only the thread that was chosen: who is awake first.
            if let Some(engine) = state.start_batch(self.slot) {
                return Turn::Lead(engine);
            }
            state = self.waker.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Runs a batch. Returns this thread's job if it is done.
    fn lead(&mut self, mut engine: Box<Engine<E>>) -> Option<Done<E>> {
        engine.run();
        // The owners, and the next leader.
        self.wakers.reserve(engine.len() + 1);
        let mut state = self.lane.lock();
        state.finish_batch(engine, self.slot, &mut self.wakers);
        let done = state.take_done(self.slot);
        // Threads that wake up need the lock.
        drop(state);
        self.wakers.drain(..).for_each(|waker| waker.notify_one());
        done
    }
}

impl<E: Executor> Clone for Lane<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E: Executor> Drop for Submitter<E> {
    fn drop(&mut self) {
        self.lane.lock().unregister(self.slot);
    }
}

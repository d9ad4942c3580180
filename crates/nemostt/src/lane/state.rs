// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the lane's lock protects: who waits, with which job, and whether a batch is running.
//!
//! The engine is here while the lane is idle. Two rules keep threads from waiting for ever:
//!
//! * While the engine is away, its leader will bring it back, and then wakes the owners of the batch and one thread
//!   whose job is pending.
//! * While the engine is here and a job is pending, one of the threads whose jobs are pending is awake, and will see
//!   both.

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use super::{Clock, Deadline, Executor, JobFailed, LaneMetrics, Limits, engine::Engine, sync::Condvar};

/// A job that is done: handed back with its result.
pub(super) type Done<E> = (<E as Executor>::Job, Result<<E as Executor>::Output, JobFailed>);

/// What has become of a submitter's job.
enum Progress<E: Executor> {
    /// It has none in the lane.
    Vacant,
    /// The queue has it.
    Pending,
    /// The engine has it.
    Running,
    Done(Done<E>),
}

/// A submitter's place in the lane.
struct Slot<E: Executor> {
    progress: Progress<E>,
    /// Wakes the submitter's thread.
    waker: Arc<Condvar>,
}

/// A pending job.
struct Entry<E: Executor> {
    deadline: Deadline,
    submitted: Duration,
    slot: usize,
    job: E::Job,
}

/// See the [module](self).
pub(super) struct State<E: Executor> {
    /// Away while a batch runs.
    engine: Option<Box<Engine<E>>>,
    slots: Vec<Slot<E>>,
    /// Slots without a submitter.
    unused: Vec<usize>,
    /// Pending jobs, the most urgent first; of equal ones, the first to arrive.
    queue: VecDeque<Entry<E>>,
    limits: Limits,
    clock: Clock,
    /// When the last batch began.
    started: Duration,
    pub(super) metrics: LaneMetrics,
}

impl<E: Executor> State<E> {
    pub(super) fn new(executor: E, limits: Limits, clock: Clock) -> Self {
        Self {
            engine: Some(Box::new(Engine::new(executor))),
            slots: Vec::new(),
            unused: Vec::new(),
            queue: VecDeque::new(),
            limits,
            clock,
            started: Duration::ZERO,
            metrics: LaneMetrics::default(),
        }
    }

    /// Adds a submitter, and all the memory that its jobs need; `None` if there are too many.
    pub(super) fn register(&mut self, waker: Arc<Condvar>) -> Option<usize> {
        let progress = Progress::Vacant;
        if let Some(slot) = self.unused.pop() {
            self.slots[slot] = Slot { progress, waker };
            return Some(slot);
        }
        if self.slots.len() >= self.limits.max_submitters {
            return None;
        }
        self.slots.push(Slot { progress, waker });
        let submitters = self.slots.len();
        self.unused.reserve(submitters);
        self.queue.reserve(submitters - self.queue.len());
        self.metrics.expect_batches_of(submitters.min(self.limits.max_batch));
        Some(submitters - 1)
    }

    pub(super) fn unregister(&mut self, slot: usize) {
        self.unused.push(slot);
    }

    /// Adds a job.
    pub(super) fn submit(&mut self, slot: usize, job: E::Job, deadline: Deadline) {
        self.slots[slot].progress = Progress::Pending;
        let place = self.queue.partition_point(|entry| entry.deadline <= deadline);
        let submitted = (self.clock)();
        let entry = Entry {
            deadline,
            submitted,
            slot,
            job,
        };
        self.queue.insert(place, entry);
        self.metrics.count_pending(self.queue.len());
    }

    /// Takes out the submitter's job if it is done.
    pub(super) fn take_done(&mut self, slot: usize) -> Option<Done<E>> {
        let progress = &mut self.slots[slot].progress;
        match mem::replace(progress, Progress::Vacant) {
            Progress::Done(done) => Some(done),
            other => {
                *progress = other;
                None
            }
        }
    }

    /// Makes the submitter the leader if its job is pending and the lane is idle: hands out the engine, with the most
    /// urgent jobs as its batch.
    pub(super) fn start_batch(&mut self, slot: usize) -> Option<Box<Engine<E>>> {
        if !matches!(self.slots[slot].progress, Progress::Pending) {
            return None;
        }
        let mut engine = self.engine.take()?;
        self.started = (self.clock)();
        let jobs = self.queue.len().min(self.limits.max_batch);
        for entry in self.queue.drain(..jobs) {
            let delay = self.started.saturating_sub(entry.submitted);
            self.metrics.queue_delay.record(delay);
            self.slots[entry.slot].progress = Progress::Running;
            engine.push(entry.job, entry.slot);
        }
        self.metrics.count_pending(self.queue.len());
        Some(engine)
    }

    /// Brings back the engine after a batch. Adds to `wakers` whom the leader must wake after it has released the lock.
    pub(super) fn finish_batch(&mut self, mut engine: Box<Engine<E>>, leader: usize, wakers: &mut Vec<Arc<Condvar>>) {
        let time = (self.clock)().saturating_sub(self.started);
        self.metrics.count_batch(engine.len(), engine.failures(), time);
        // First the next leader, because the lane is idle until it is awake.
        let next = self.queue.front().map(|entry| entry.slot);
        wakers.extend(
            next.filter(|&slot| slot != leader)
                .map(|slot| self.slots[slot].waker.clone()),
        );
        for (owner, job, result) in engine.take_batch() {
            let slot = &mut self.slots[owner];
            slot.progress = Progress::Done((job, result));
            if owner != leader {
                wakers.push(slot.waker.clone());
            }
        }
        self.engine = Some(engine);
    }
}

#[cfg(test)]
impl<E: Executor> State<E> {
    /// The deadlines of pending jobs, in their order.
    #[cfg(not(loom))]
    pub(super) fn pending(&self) -> Vec<Deadline> {
        self.queue.iter().map(|entry| entry.deadline).collect()
    }

    /// All threads that may wait.
    pub(super) fn wakers(&self) -> Vec<Arc<Condvar>> {
        self.slots.iter().map(|slot| slot.waker.clone()).collect()
    }
}

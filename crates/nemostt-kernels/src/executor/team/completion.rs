// SPDX-License-Identifier: MIT OR Apache-2.0

//! Counts tasks that are done, and lets workers wait until all tasks of a phase are.
//!
//! A waiting worker spins for a moment and then sleeps. A spinning thread may occupy the core that the other one needs: for a
//! while if they share a core, and for ever if it is a real-time thread and the other is not.
//!
//! The count and the flag for sleepers share one atomic, so that no wake-up is lost: either the worker that is about to sleep
//! sees the last task, or the worker that completes the last task sees the sleeper. This needs no fence, and a wake-up only if
//! a worker sleeps. A sleeper sets the flag with the lock held, which `Condvar` releases when it sleeps, and a wake-up takes the
//! lock. On Linux, both are futexes: they do not allocate, and a real-time thread that finds the lock taken sleeps.

use std::sync::PoisonError;

use super::sync::{AtomicUsize, Condvar, Mutex, Ordering, spin};

/// A worker sleeps, or is about to.
const HAS_SLEEPERS: usize = 1;
/// A worker has panicked.
const ABORTED: usize = 2;
/// One task in the count.
const ONE_TASK: usize = 4;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Completion {
    state: AtomicUsize,
    lock: Mutex<()>,
    changed: Condvar,
}

/// A worker has panicked: the remaining tasks will not be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Aborted;

impl Completion {
    /// Resets the count.
    pub(super) fn clear(&mut self) {
        self.state.store(0, Ordering::Relaxed);
    }

    /// Adds `task_count` tasks, and wakes the sleepers if these are the last of `all`.
    pub(super) fn add(&self, task_count: usize, all: usize) {
        if task_count == 0 {
            return;
        }
        // Pairs with the acquires in `wait`, so that waiting workers see what the tasks have written.
        let before = self.state.fetch_add(task_count * ONE_TASK, Ordering::Release);
        if before & HAS_SLEEPERS != 0 && before / ONE_TASK + task_count >= all {
            self.wake();
        }
    }

    /// Ends all waits with [`Aborted`].
    pub(super) fn abort(&self) {
        if self.state.fetch_or(ABORTED, Ordering::Relaxed) & HAS_SLEEPERS != 0 {
            self.wake();
        }
    }

    /// Waits until `all` tasks are done.
    pub(super) fn wait(&self, all: usize) -> Result<(), Aborted> {
        if let Some(end) = spin(|| end(self.state.load(Ordering::Acquire), all)) {
            return end;
        }
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(end) = end(self.state.fetch_or(HAS_SLEEPERS, Ordering::Acquire), all) {
                return end;
            }
            lock = self.changed.wait(lock).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn wake(&self) {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        // All sleepers wait for the same phase, because no worker passes a phase that is not done.
        self.state.fetch_and(!HAS_SLEEPERS, Ordering::Relaxed);
        drop(lock);
        self.changed.notify_all();
    }
}

/// The result of a wait; `None` if it goes on.
fn end(state: usize, all: usize) -> Option<Result<(), Aborted>> {
    match state {
        state if state / ONE_TASK >= all => Some(Ok(())),
        state if state & ABORTED != 0 => Some(Err(Aborted)),
        _ => None,
    }
}

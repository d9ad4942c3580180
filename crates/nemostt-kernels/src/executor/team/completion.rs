// SPDX-License-Identifier: MIT OR Apache-2.0

//! How many pieces are done, and the members that wait until enough are.
//!
//! Who waits spins for a moment and then sleeps. A spinning thread may hold the very processor that the awaited one needs: always
//! for a while where both have one processor, and for good if it is a real-time thread and the other is not.
//!
//! The count and whether somebody sleeps are one atomic, so a change of either sees the other: who is about to sleep sees that
//! all is done, or who completes it sees the sleeper. It costs no fence, and a wake-up only where somebody sleeps. A sleeper
//! says so with the lock held and gives it up when it sleeps (`Condvar`), so a wake-up, which takes the lock, is not lost between the two.
//! std's lock and condition are a futex each on Linux: they allocate nothing, and a real-time thread that finds the lock taken
//! sleeps until the other has left it.

use std::sync::PoisonError;

use super::sync::{AtomicUsize, Condvar, Mutex, Ordering, spin};

/// Somebody sleeps, or is about to.
const HAS_SLEEPERS: usize = 1;
/// The rest will not be done.
const ABORTED: usize = 2;
/// A piece that is done.
const ONE_TASK: usize = 4;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Completion {
    state: AtomicUsize,
    lock: Mutex<()>,
    changed: Condvar,
}

/// The rest will not be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Aborted;

impl Completion {
    /// Nothing is done.
    pub(super) fn clear(&mut self) {
        self.state.store(0, Ordering::Relaxed);
    }

    /// Notes `task_count` more as done, and wakes those who sleep if these are the last of `all`.
    pub(super) fn add(&self, task_count: usize, all: usize) {
        if task_count == 0 {
            return;
        }
        // What was written is seen by whoever sees that it is done.
        let before = self.state.fetch_add(task_count * ONE_TASK, Ordering::Release);
        if before & HAS_SLEEPERS != 0 && before / ONE_TASK + task_count >= all {
            self.wake();
        }
    }

    /// The rest will not be done: nobody waits any longer.
    pub(super) fn abort(&self) {
        if self.state.fetch_or(ABORTED, Ordering::Relaxed) & HAS_SLEEPERS != 0 {
            self.wake();
        }
    }

    /// Waits until `all` pieces are done.
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
        // All who sleep wait for the same phase, for nobody is ahead of one that is not done.
        self.state.fetch_and(!HAS_SLEEPERS, Ordering::Relaxed);
        drop(lock);
        self.changed.notify_all();
    }
}

/// Whether and how waiting ends.
fn end(state: usize, all: usize) -> Option<Result<(), Aborted>> {
    match state {
        state if state / ONE_TASK >= all => Some(Ok(())),
        state if state & ABORTED != 0 => Some(Err(Aborted)),
        _ => None,
    }
}

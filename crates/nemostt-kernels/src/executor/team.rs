// SPDX-License-Identifier: MIT OR Apache-2.0

//! Threads that go through the phases of a chain together.
//!
//! A phase is a number of pieces, of which each member has an equal share; whoever is done with its own takes of the others'.
//! Nobody goes on to the next phase before all pieces of this one are done. Nobody waits for a member that has not come: what
//! is its share is done by the others, and when it comes at last it finds nothing left to do. So it does not matter on how
//! many threads the members really run, nor whether they run at the same time.
//!
//! Who waits for pieces that others have taken sleeps if it takes long: see [`completion`].

mod completion;
#[cfg(test)]
#[cfg(loom)]
mod model;
mod sync;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;

use std::ops::Range;

use self::{
    completion::Completion,
    sync::{AtomicU64, AtomicUsize, Ordering, backoff_sleep, spin},
};

/// More members have nothing to do: phases have a few dozen pieces.
const MAX_WORKERS: usize = 64;

/// A line of the processor's cache of its own (two, for they are fetched in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
struct CachePadded<T>(T);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Team {
    /// How many pieces of each member's share are taken, and of which phase, counted from 1: see [`pack_phase`].
    claimed: Box<[CachePadded<AtomicU64>]>,
    /// Pieces that are done, of all phases.
    done: CachePadded<Completion>,
    /// Members at work on other threads than the caller's.
    helpers: CachePadded<AtomicUsize>,
}

/// On which thread a member is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The one that called the members together, and goes on when all is done.
    Caller,
    Helper,
}

/// Tells the others when it is dropped, which is in a panic.
struct PanicGuard<'a>(&'a Completion);

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A helper that has come.
struct HelperGuard<'a>(&'a AtomicUsize);

impl<'a> HelperGuard<'a> {
    fn new(helpers: &'a AtomicUsize) -> Self {
        helpers.fetch_add(1, Ordering::Relaxed);
        Self(helpers)
    }
}

impl Drop for HelperGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A phase and a count in one number, so that both change at once.
fn pack_phase(phase: usize, count: usize) -> u64 {
    (phase as u64) << 32 | count as u64
}

impl Team {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            claimed: (0..workers.clamp(1, MAX_WORKERS))
                .map(|_| CachePadded::default())
                .collect(),
            done: CachePadded::default(),
            helpers: CachePadded::default(),
        }
    }

    pub(super) fn workers(&self) -> usize {
        self.claimed.len()
    }

    /// Gets ready for the first phase. Nobody may be at work.
    pub(super) fn reset(&mut self) {
        for claimed in &mut self.claimed {
            claimed.0.store(0, Ordering::Relaxed);
        }
        self.done.0.clear();
    }

    /// Goes through `phases`, numbers of pieces, as member `worker`. `work` gets the index of a phase and a piece of it, each
    /// of which is done once; `rest` the index of the phase that is next, before its pieces can be begun.
    /// All is done when the caller's call ends. A helper's ends when there is nothing left to take.
    /// If one of them panics, this member does, too, and the others end without the next phase.
    pub(super) fn run(
        &self,
        worker: usize,
        role: Role,
        phases: &[usize],
        mut work: impl FnMut(usize, usize),
        mut rest: impl FnMut(usize),
    ) {
        let workers = self.workers();
        let helper_guard = (role == Role::Helper).then(|| HelperGuard::new(&self.helpers.0));
        let guard = PanicGuard(&self.done.0);
        let mut all = 0;
        for (index, &task_count) in phases.iter().enumerate() {
            all += task_count;
            let mut done = 0;
            for share in (worker..workers).chain(0..worker) {
                let range = share * task_count / workers..(share + 1) * task_count / workers;
                while let Some(task) = self.claim_task(share, index + 1, &range) {
                    work(index, task);
                    done += 1;
                }
            }
            self.done.0.add(done, all);
            // What comes next is not ours.
            if role == Role::Helper && index + 1 == phases.len() {
                break;
            }
            rest(index + 1);
            if self.done.0.wait(all).is_err() {
                break;
            }
        }
        std::mem::forget(guard);
        drop(helper_guard);
        if role == Role::Caller {
            self.wait_for_helpers();
        }
    }

    /// Waits until all helpers that have come are gone.
    ///
    /// ONNX Runtime waits for them, too, but in a loop (`EndParallelSectionInternal` in its `EigenNonBlockingThreadPool.h`),
    /// which may hold the processor that they need. They have no more to do than to leave. That they do not wake anybody is
    /// meant: a woken thread may take their processor at once, before they have told ONNX Runtime. Who sleeps by the clock
    /// lets them go on.
    fn wait_for_helpers(&self) {
        let are_gone = || (self.helpers.0.load(Ordering::Relaxed) == 0).then_some(());
        if spin(are_gone).is_some() {
            return;
        }
        while are_gone().is_none() {
            backoff_sleep();
        }
    }

    /// A piece of a member's share in a phase that nobody has taken yet.
    fn claim_task(&self, share: usize, phase: usize, range: &Range<usize>) -> Option<usize> {
        let claimed = &self.claimed[share].0;
        let mut seen = claimed.load(Ordering::Relaxed);
        loop {
            let count = match seen {
                // Somebody is there who has the phase behind him: nothing is left of it.
                later if later >= pack_phase(phase + 1, 0) => return None,
                now if now >= pack_phase(phase, 0) => (now - pack_phase(phase, 0)) as usize,
                _ => 0,
            };
            if count >= range.len() {
                return None;
            }
            let next = pack_phase(phase, count + 1);
            match claimed.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(range.start + count),
                Err(now) => seen = now,
            }
        }
    }
}

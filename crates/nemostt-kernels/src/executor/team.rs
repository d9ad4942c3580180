// SPDX-License-Identifier: MIT OR Apache-2.0

//! Threads that run the phases of a program together.
//!
//! A phase is a number of tasks, of which each worker has an equal share; a worker that has finished its share claims tasks
//! of the others. No task of the next phase starts before all tasks of this one are done. Nobody waits for a worker that has
//! not arrived: the others run its share, and when it arrives it finds nothing left. So it does not matter on how many
//! threads the workers run, or whether they run at the same time.
//!
//! A worker that waits for tasks of others for a long time sleeps: see [`completion`].

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

/// More workers would have nothing to do: phases have a few dozen tasks.
const MAX_WORKERS: usize = 64;

/// A value in a cache line of its own: two lines, because processors prefetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct CachePadded<T>(T);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Team {
    /// How many tasks of each worker's share are claimed, and in which phase, counted from 1: see [`pack_phase`].
    claimed: Box<[CachePadded<AtomicU64>]>,
    /// Tasks that are done, of all phases.
    done: CachePadded<Completion>,
    /// Workers that run on other threads than the caller's.
    helpers: CachePadded<AtomicUsize>,
}

/// On which thread a worker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The thread that started the run, and returns when all tasks are done.
    Caller,
    Helper,
}

/// Stops the others if it is dropped, which happens only in a panic.
struct PanicGuard<'a>(&'a Completion);

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Counts a helper while it runs.
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

/// A phase and a count in one integer, so that both change at the same time.
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

    /// Prepares the first phase. No worker may be running, which `&mut` ensures.
    pub(super) fn reset(&mut self) {
        for claimed in &mut self.claimed {
            claimed.0.store(0, Ordering::Relaxed);
        }
        self.done.0.clear();
    }

    /// Runs `phases`, which are numbers of tasks, as worker `worker`. `run_task` is called with the index of a phase and of a
    /// task, once for each task; `before_wait` with the index of the next phase, before this worker waits for it.
    ///
    /// For the caller, all tasks are done when this function returns. For a helper, it returns when there is nothing left to
    /// claim. A panic in a task propagates, and the other workers return without the next phase.
    pub(super) fn run(
        &self,
        worker: usize,
        role: Role,
        phases: &[usize],
        mut run_task: impl FnMut(usize, usize),
        mut before_wait: impl FnMut(usize),
    ) {
        let workers = self.workers();
        let helper_guard = (role == Role::Helper).then(|| HelperGuard::new(&self.helpers.0));
        let guard = PanicGuard(&self.done.0);
        let mut all = 0;
        for (index, &task_count) in phases.iter().enumerate() {
            if task_count == 0 {
                continue;
            }
            all += task_count;
            let mut done = 0;
            for share in (worker..workers).chain(0..worker) {
                let range = share * task_count / workers..(share + 1) * task_count / workers;
                while let Some(task) = self.claim_task(share, index + 1, &range) {
                    run_task(index, task);
                    done += 1;
                }
            }
            self.done.0.add(done, all);
            // A helper need not wait for the end.
            if role == Role::Helper && index + 1 == phases.len() {
                break;
            }
            before_wait(index + 1);
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

    /// Waits until all helpers that have arrived have left.
    ///
    /// ONNX Runtime waits for them, too, but in a loop (`EndParallelSectionInternal` in its `EigenNonBlockingThreadPool.h`)
    /// that may occupy the core that they need. They only have to return. They do not wake the caller, because a thread that
    /// is woken may take their core before they have reported to ONNX Runtime; the caller sleeps for a fixed time instead.
    fn wait_for_helpers(&self) {
        let have_left = || (self.helpers.0.load(Ordering::Relaxed) == 0).then_some(());
        if spin(have_left).is_some() {
            return;
        }
        while have_left().is_none() {
            backoff_sleep();
        }
    }

    /// Claims a task of a worker's share in a phase; `None` if none is left.
    fn claim_task(&self, share: usize, phase: usize, range: &Range<usize>) -> Option<usize> {
        let claimed = &self.claimed[share].0;
        let mut seen = claimed.load(Ordering::Relaxed);
        loop {
            let count = match seen {
                // A worker has reached a later phase, so nothing is left of this one.
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

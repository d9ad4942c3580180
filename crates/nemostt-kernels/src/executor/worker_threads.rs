// SPDX-License-Identifier: MIT OR Apache-2.0

//! Threads that help the one that runs a program.
//!
//! A general thread pool does not fit: it may run another job on a thread that waits for its helpers, and that job may need
//! what this thread holds. Here, the caller only waits for helpers that have started, and one that comes too late finds
//! nothing to do, as a [team](super::team) expects.

use std::{
    any::Any,
    io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

/// A function that workers call with their index.
type Work = dyn Fn(usize) + Sync;

/// See the [module](self). Threads sleep between runs, and end when this is dropped.
pub struct WorkerThreads {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something to do.
    started: Condvar,
    /// A helper has left.
    left: Condvar,
}

#[derive(Default)]
struct State {
    /// What to call, and for which workers it has not been called.
    run: Option<Run>,
    /// Helpers that are in a call.
    active: usize,
    /// The first panic of a helper in this run.
    panic: Option<Box<dyn Any + Send>>,
    ends: bool,
}

struct Run {
    work: *const Work,
    /// The next worker, and their number.
    next: usize,
    workers: usize,
}

// SAFETY: the function may be called from any thread (`Sync`), and `parallel_for` keeps it alive as long as this exists.
#[allow(unsafe_code)]
unsafe impl Send for Run {}

impl Shared {
    /// The state is valid whatever has panicked: no call runs with the lock held.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a helper does until the end.
    fn help(&self) {
        let mut state = self.lock();
        loop {
            if state.ends {
                return;
            }
            let Some((work, worker)) = state.claim() else {
                state = self.started.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.active += 1;
            drop(state);
            // SAFETY: `parallel_for` waits for active helpers before it returns, so the function is still borrowed.
            #[allow(unsafe_code)]
            let result = catch_unwind(AssertUnwindSafe(|| unsafe { (*work)(worker) }));
            state = self.lock();
            state.active -= 1;
            if let Err(panic) = result {
                match &state.panic {
                    None => state.panic = Some(panic),
                    // Whatever it is, dropping it could panic, too.
                    Some(_) => std::mem::forget(panic),
                }
            }
            self.left.notify_one();
        }
    }
}

impl State {
    fn claim(&mut self) -> Option<(*const Work, usize)> {
        let run = self.run.as_mut().filter(|run| run.next < run.workers)?;
        run.next += 1;
        Some((run.work, run.next - 1))
    }
}

impl WorkerThreads {
    /// Starts `helpers` threads, each of which first calls `start`.
    ///
    /// # Errors
    /// The system's error if a thread cannot be started.
    pub fn new(helpers: usize, start: impl Fn() + Clone + Send + 'static) -> io::Result<Self> {
        let mut this = Self {
            shared: Arc::default(),
            threads: Vec::with_capacity(helpers),
        };
        for index in 0..helpers {
            let (shared, start) = (this.shared.clone(), start.clone());
            let builder = thread::Builder::new().name(format!("nemostt-{index}"));
            this.threads.push(builder.spawn(move || {
                start();
                shared.help();
            })?);
        }
        Ok(this)
    }

    /// Calls `work` with index 0 on this thread, and with further indices below `workers` on those helpers that are awake
    /// before it returns. So `work` must not depend on all of them.
    ///
    /// # Panics
    /// If a call panics.
    pub fn parallel_for(&mut self, workers: usize, work: &(dyn Fn(usize) + Sync)) {
        // SAFETY: only the lifetime is extended. The reference is used by helpers that are active, and `Finish` waits for
        // these and takes it back before this function returns or unwinds. `&mut` makes this the only run.
        #[allow(unsafe_code)]
        let work_ptr = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const Work>(work) };
        let before = {
            let mut state = self.shared.lock();
            state.run = Some(Run {
                work: work_ptr,
                next: 1,
                workers,
            });
            // Of a run in which this thread has panicked, too.
            state.panic.take()
        };
        let finish = Finish(&self.shared);
        drop(before);
        for _ in 1..workers.min(self.threads.len() + 1) {
            self.shared.started.notify_one();
        }
        work(0);
        drop(finish);
        let panic = self.shared.lock().panic.take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

/// Ends a run when it is dropped.
struct Finish<'a>(&'a Shared);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.run = None;
        while state.active > 0 {
            state = self.0.left.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for WorkerThreads {
    fn drop(&mut self) {
        self.shared.lock().ends = true;
        self.shared.started.notify_all();
        for thread in self.threads.drain(..) {
            // A helper catches panics, so it cannot have panicked.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    fn threads(helpers: usize) -> WorkerThreads {
        WorkerThreads::new(helpers, || ()).unwrap()
    }

    #[test]
    fn the_first_worker_runs_on_the_calling_thread() {
        for helpers in 0..3 {
            let mut threads = threads(helpers);
            let here = thread::current().id();
            for _ in 0..if cfg!(miri) { 3 } else { 200 } {
                let seen = Mutex::new(Vec::new());
                threads.parallel_for(helpers + 1, &|worker| {
                    assert!((worker == 0) == (thread::current().id() == here));
                    seen.lock().unwrap().push(worker);
                });
                let mut seen = seen.into_inner().unwrap();
                seen.sort_unstable();
                assert!(seen.is_sorted_by(|first, second| first < second), "a worker ran twice");
                assert!(seen[0] == 0 && seen.iter().all(|&worker| worker <= helpers));
            }
        }
    }

    #[test]
    fn helpers_run_at_the_same_time() {
        let mut threads = threads(2);
        let barrier = Barrier::new(3);
        threads.parallel_for(3, &|_| {
            barrier.wait();
        });
    }

    #[test]
    fn panics_propagate_and_the_threads_survive() {
        let mut threads = threads(1);
        let barrier = Barrier::new(2);
        for panicking in [0, 1] {
            let run = AssertUnwindSafe(|| {
                threads.parallel_for(2, &|worker| {
                    barrier.wait();
                    assert!(worker != panicking, "expected");
                });
            });
            assert!(catch_unwind(run).is_err());
            threads.parallel_for(2, &|_| {
                barrier.wait();
            });
        }
    }

    /// The panic of a helper in a run that the caller's own panic has ended.
    #[test]
    fn panics_of_one_run_do_not_end_the_next() {
        let mut threads = threads(1);
        let barrier = Barrier::new(2);
        for _ in 0..3 {
            let run = AssertUnwindSafe(|| {
                threads.parallel_for(2, &|_| {
                    barrier.wait();
                    panic!("expected");
                });
            });
            assert!(catch_unwind(run).is_err());
            threads.parallel_for(2, &|_| {
                barrier.wait();
            });
        }
    }

    #[test]
    fn threads_start_with_the_given_function_and_end() {
        let started = Arc::new(AtomicUsize::new(0));
        let count = started.clone();
        let start = move || {
            count.fetch_add(1, Ordering::Relaxed);
        };
        drop(WorkerThreads::new(3, start).unwrap());
        assert_eq!(started.load(Ordering::Relaxed), 3);
        // The threads have dropped theirs.
        assert_eq!(Arc::strong_count(&started), 1);
    }
}

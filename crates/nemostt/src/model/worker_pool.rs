// SPDX-License-Identifier: MIT OR Apache-2.0

//! Threads that help the thread of a stream to run a program.

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};

/// See the [module](self). Threads sleep between runs.
pub(super) struct WorkerPool {
    /// `None` if there are none.
    helpers: Option<ThreadPool>,
}

impl WorkerPool {
    /// A pool for runs on `threads` threads, including the one that starts a run. They only run on `processors`, if given.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if threads cannot be started.
    pub(super) fn new(threads: usize, processors: Option<Vec<usize>>) -> Result<Self> {
        let start = |helpers: usize| {
            ThreadPoolBuilder::new()
                .num_threads(helpers)
                .thread_name(|index| format!("nemostt-{index}"))
                .start_handler(move |_| {
                    if let Some(processors) = &processors {
                        super::processors::pin_thread(processors);
                    }
                })
                .build()
        };
        let helpers = match threads.saturating_sub(1) {
            0 => None,
            helpers => Some(start(helpers).map_err(|error| Error::OutOfMemory {
                doing: "start threads".into(),
                reason: error.to_string(),
            })?),
        };
        Ok(Self { helpers })
    }

    /// Calls `work` once for each index below `workers`, with index 0 on this thread, and returns after the last call.
    ///
    /// # Panics
    /// If a call panics.
    pub(super) fn parallel_for(&self, workers: usize, work: &(dyn Fn(usize) + Sync)) {
        match &self.helpers {
            None => (0..workers).for_each(work),
            Some(helpers) => helpers.in_place_scope(|scope| {
                for worker in 1..workers {
                    scope.spawn(move |_| work(worker));
                }
                work(0);
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::Mutex,
        thread::current,
    };

    use super::*;
    use crate::sync::lock;

    #[test]
    fn each_worker_runs_once_and_the_first_on_this_thread() {
        for threads in [1, 2, 4] {
            let pool = WorkerPool::new(threads, None).unwrap();
            let here = current().id();
            for workers in [1, threads, 2 * threads] {
                let seen = Mutex::new(Vec::new());
                pool.parallel_for(workers, &|worker| {
                    assert!(worker > 0 || current().id() == here);
                    lock(&seen).push(worker);
                });
                let mut seen = seen.into_inner().unwrap();
                seen.sort_unstable();
                assert_eq!(seen, (0..workers).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn panics_propagate_and_the_pool_survives() {
        let pool = WorkerPool::new(2, None).unwrap();
        for panicking in [0, 1] {
            let run = AssertUnwindSafe(|| pool.parallel_for(2, &|worker| assert!(worker != panicking, "expected")));
            assert!(catch_unwind(run).is_err());
            pool.parallel_for(2, &|_| ());
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The team under loom, which explores the interleavings of threads and what each can see of the memory of others:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release -p nemostt-kernels --lib executor::team
//! ```
//!
//! A lost wake-up is a deadlock here, and a task that sees too little of the phase before it is a data race. Not covered:
//! futexes, because loom replaces std's lock and condition variable by its own, without spurious wake-ups; spinning, which is
//! a single poll; time, so that [`backoff_sleep`] only yields; more than three threads; and more preemptions than a test
//! states. A panic is simulated by what unwinding does, because loom runs all its threads on one thread of the system, of
//! which only one can unwind.

use loom::{cell::UnsafeCell, model::Builder, sync::Arc, thread};

use super::*;

/// Counts how often each task has run.
struct TaskCounts(Vec<Vec<UnsafeCell<usize>>>);

// SAFETY: loom checks that accesses do not overlap, which is what is tested.
#[allow(unsafe_code)]
unsafe impl Sync for TaskCounts {}

impl TaskCounts {
    fn new(phases: &[usize]) -> Self {
        let phase = |&task_count: &usize| (0..task_count).map(|_| UnsafeCell::new(0)).collect();
        Self(phases.iter().map(phase).collect())
    }

    /// How often a task has run; counts one more run if `add`.
    fn count(&self, phase: usize, task: usize, add: bool) -> usize {
        let cell = &self.0[phase][task];
        // SAFETY: loom fails if another thread accesses the cell at the same time.
        #[allow(unsafe_code)]
        match add {
            true => cell.with_mut(|count| unsafe {
                *count += 1;
                *count
            }),
            false => cell.with(|count| unsafe { *count }),
        }
    }

    /// Whether each task of the first `phases` has run once.
    fn are_done(&self, phases: usize) -> bool {
        let all = self.0.iter().enumerate().take(phases);
        let mut all = all.flat_map(|(phase, task_count)| (0..task_count.len()).map(move |task| (phase, task)));
        all.all(|(phase, task)| self.count(phase, task, false) == 1)
    }
}

/// A team and the phases that it runs.
struct TestRun {
    team: Team,
    phases: &'static [usize],
    counts: TaskCounts,
}

impl TestRun {
    fn new(workers: usize, phases: &'static [usize]) -> Arc<Self> {
        let mut team = Team::new(workers);
        team.reset();
        Arc::new(Self {
            team,
            phases,
            counts: TaskCounts::new(phases),
        })
    }

    fn work(&self, worker: usize, role: Role) {
        let work = |phase: usize, task: usize| {
            assert!(self.counts.are_done(phase));
            assert_eq!(self.counts.count(phase, task, true), 1);
        };
        self.team.run(worker, role, self.phases, work, |_| ());
    }

    /// Claims a task of its own share in the first phase, and panics in it. Returns whether there was one.
    fn panic(&self, worker: usize) -> bool {
        let workers = self.team.workers();
        let range = worker * self.phases[0] / workers..(worker + 1) * self.phases[0] / workers;
        let helper_guard = HelperGuard::new(&self.team.helpers.0);
        let claimed = self.team.claim_task(worker, 1, &range);
        if claimed.is_some() {
            drop(PanicGuard(&self.team.done.0));
        }
        drop(helper_guard);
        claimed.is_some()
    }
}

/// Runs `test` in all interleavings with up to this many preemptions; `None` stands for any number.
fn explore(preemptions: Option<usize>, test: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(test);
}

/// Runs phases on a thread for each list of workers, which the thread runs one after the other. The first is the caller.
fn check(preemptions: usize, phases: &'static [usize], threads: &'static [&'static [usize]]) {
    explore(Some(preemptions), move || {
        let workers = threads
            .iter()
            .flat_map(|list| list.iter())
            .max()
            .map_or(1, |most| most + 1);
        let run = TestRun::new(workers, phases);
        let helpers: Vec<_> = threads[1..]
            .iter()
            .map(|list| {
                let run = run.clone();
                thread::spawn(move || list.iter().for_each(|&worker| run.work(worker, Role::Helper)))
            })
            .collect();
        for &worker in threads[0] {
            run.work(worker, Role::Caller);
            // The caller sees what all workers have written.
            assert!(run.counts.are_done(phases.len()));
        }
        for helper in helpers {
            helper.join().unwrap();
        }
    });
}

#[test]
fn all_sleepers_are_woken() {
    for aborts in [false, true] {
        explore(None, move || {
            let completion = Arc::new(Completion::default());
            let waits = || {
                let completion = completion.clone();
                thread::spawn(move || completion.wait(1).is_err())
            };
            let waiting = [waits(), waits()];
            match aborts {
                true => completion.abort(),
                false => completion.add(1, 1),
            }
            for waits in waiting {
                assert_eq!(waits.join().unwrap(), aborts);
            }
        });
    }
}

#[test]
fn two_workers() {
    check(3, &[2, 1], &[&[0], &[1]]);
    check(2, &[1, 2, 1], &[&[0], &[1]]);
}

#[test]
fn three_workers() {
    check(1, &[3, 1], &[&[0], &[1], &[2]]);
}

#[test]
fn late_worker() {
    check(2, &[2, 2], &[&[0, 1], &[2]]);
    check(2, &[2, 2], &[&[0], &[2, 1]]);
}

#[test]
fn panic_wakes_all_workers() {
    for workers in [2, 3] {
        explore(Some(1), move || {
            let run = TestRun::new(workers, &[3, 1]);
            let panics = {
                let run = run.clone();
                thread::spawn(move || run.panic(workers - 1))
            };
            let helper = (workers > 2).then(|| {
                let run = run.clone();
                thread::spawn(move || run.work(1, Role::Helper))
            });
            run.work(0, Role::Caller);
            if let Some(helper) = helper {
                helper.join().unwrap();
            }
            assert!(panics.join().unwrap() || run.counts.are_done(2));
        });
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The team under loom, which goes through the orders in which threads can meet, and through what each can see of the others'
//! memory:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release --lib --no-default-features kernels::executor::team
//! ```
//!
//! A sleeper that nobody wakes is a deadlock here, and a piece that sees too little of the phase before it a race. What is left
//! out: the futexes below std's lock and condition, for loom has its own in their place (which never wake by themselves); the
//! spinning, of which one look is left; time, so [`backoff_sleep`] is a turn for the others; more than three threads; and orders in which threads are
//! interrupted more often than a test says. A panic is what unwinding does here, for loom's threads are one of the system's, of
//! which only one can unwind.

use loom::{cell::UnsafeCell, model::Builder, sync::Arc, thread};

use super::*;

/// What pieces write.
struct TaskCounts(Vec<Vec<UnsafeCell<usize>>>);

// SAFETY: loom checks that accesses do not overlap: it is what is tested.
#[allow(unsafe_code)]
unsafe impl Sync for TaskCounts {}

impl TaskCounts {
    fn new(phases: &[usize]) -> Self {
        let phase = |&task_count: &usize| (0..task_count).map(|_| UnsafeCell::new(0)).collect();
        Self(phases.iter().map(phase).collect())
    }

    /// How often a piece was done, and once more if `more`.
    fn count(&self, phase: usize, task: usize, more: bool) -> usize {
        let cell = &self.0[phase][task];
        // SAFETY: loom fails where another thread has the cell at the same time.
        #[allow(unsafe_code)]
        match more {
            true => cell.with_mut(|count| unsafe {
                *count += 1;
                *count
            }),
            false => cell.with(|count| unsafe { *count }),
        }
    }

    /// Whether each piece of the first `phases` was done once.
    fn are_done(&self, phases: usize) -> bool {
        let all = self.0.iter().enumerate().take(phases);
        let mut all = all.flat_map(|(phase, task_count)| (0..task_count.len()).map(move |task| (phase, task)));
        all.all(|(phase, task)| self.count(phase, task, false) == 1)
    }
}

/// A team at work.
struct Scene {
    team: Team,
    phases: &'static [usize],
    counts: TaskCounts,
}

impl Scene {
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

    /// Whether this member took a piece of its own share in the first phase, and panicked.
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

/// `test` in all orders in which threads are interrupted up to so many times, or as often as can be. Where one waits, another goes
/// on in any case.
fn explore(interruptions: Option<usize>, test: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = interruptions;
    builder.check(test);
}

/// Goes through phases on as many threads as there are lists of members, each one after the other. The first is the caller.
fn check(interruptions: usize, phases: &'static [usize], threads: &'static [&'static [usize]]) {
    explore(Some(interruptions), move || {
        let workers = threads
            .iter()
            .flat_map(|list| list.iter())
            .max()
            .map_or(1, |most| most + 1);
        let scene = Scene::new(workers, phases);
        let helpers: Vec<_> = threads[1..]
            .iter()
            .map(|list| {
                let scene = scene.clone();
                thread::spawn(move || list.iter().for_each(|&worker| scene.work(worker, Role::Helper)))
            })
            .collect();
        for &worker in threads[0] {
            scene.work(worker, Role::Caller);
            // The caller goes on with what all have written.
            assert!(scene.counts.are_done(phases.len()));
        }
        for helper in helpers {
            helper.join().unwrap();
        }
    });
}

#[test]
fn all_who_sleep_are_woken() {
    for breaks in [false, true] {
        explore(None, move || {
            let completion = Arc::new(Completion::default());
            let waits = || {
                let completion = completion.clone();
                thread::spawn(move || completion.wait(1).is_err())
            };
            let waiting = [waits(), waits()];
            match breaks {
                true => completion.abort(),
                false => completion.add(1, 1),
            }
            for waits in waiting {
                assert_eq!(waits.join().unwrap(), breaks);
            }
        });
    }
}

#[test]
fn two_members() {
    check(3, &[2, 1], &[&[0], &[1]]);
    check(2, &[1, 2, 1], &[&[0], &[1]]);
}

#[test]
fn three_members() {
    check(1, &[3, 1], &[&[0], &[1], &[2]]);
}

#[test]
fn a_member_that_comes_late() {
    check(2, &[2, 2], &[&[0, 1], &[2]]);
    check(2, &[2, 2], &[&[0], &[2, 1]]);
}

#[test]
fn a_panic_wakes_all() {
    for workers in [2, 3] {
        explore(Some(1), move || {
            let scene = Scene::new(workers, &[3, 1]);
            let panics = {
                let scene = scene.clone();
                thread::spawn(move || scene.panic(workers - 1))
            };
            let helper = (workers > 2).then(|| {
                let scene = scene.clone();
                thread::spawn(move || scene.work(1, Role::Helper))
            });
            scene.work(0, Role::Caller);
            if let Some(helper) = helper {
                helper.join().unwrap();
            }
            assert!(panics.join().unwrap() || scene.counts.are_done(2));
        });
    }
}

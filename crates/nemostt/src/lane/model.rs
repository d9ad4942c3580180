// SPDX-License-Identifier: MIT OR Apache-2.0

//! The lane under loom, which explores the interleavings of threads:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release --lib lane
//! ```
//!
//! A lost wake-up is a deadlock here, and two leaders at the same time are a data race in the executor. Each test also
//! checks that interleavings of interest were among those explored. Not covered: panics, because loom runs all its
//! threads on one thread of the system, so a batch fails by a missing result instead; more than three threads; and more
//! preemptions than a test states, so that all of them take seconds (without these bounds they pass, too, in some
//! minutes). Loom's condition variable has no spurious wake-ups: one test makes some.

use std::sync::atomic::{AtomicUsize, Ordering};

use loom::{cell::UnsafeCell, model::Builder, thread};

use super::*;

struct Job {
    owner: usize,
    runs: usize,
}

/// What was seen in all interleavings together. Unknown to loom.
#[derive(Default)]
struct Seen {
    executions: AtomicUsize,
    largest_batch: AtomicUsize,
    /// Jobs that were run by another thread than their owner's.
    run_by_others: AtomicUsize,
    /// Batches without a job of the leader.
    run_for_others: AtomicUsize,
    /// Jobs that ran twice, because their batch failed.
    retried: AtomicUsize,
    ok: AtomicUsize,
    failed: AtomicUsize,
}

impl Seen {
    fn get(count: &AtomicUsize) -> usize {
        count.load(Ordering::Relaxed)
    }

    fn add(count: &AtomicUsize) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// The threads of a test, and which of its owners each is.
type Owners = Arc<std::sync::Mutex<Vec<(thread::ThreadId, usize)>>>;

/// Returns each job's owner, or too few results if it is to fail for one of them.
struct Counter {
    /// Loom fails if two threads access it at the same time, or do not see what the other has done.
    exclusive: UnsafeCell<()>,
    fails_for: Option<usize>,
    owners: Owners,
    seen: Arc<Seen>,
}

impl Executor for Counter {
    type Job = Job;
    type Output = usize;

    fn run(&mut self, jobs: &mut [Job], results: &mut Vec<usize>) {
        self.exclusive.with_mut(|_| ());
        self.seen.largest_batch.fetch_max(jobs.len(), Ordering::Relaxed);
        let this_thread = thread::current().id();
        let owners = self.owners.lock().unwrap();
        let leader = owners
            .iter()
            .find(|(id, _)| *id == this_thread)
            .map(|&(_, owner)| owner);
        drop(owners);
        if jobs.iter().all(|job| Some(job.owner) != leader) {
            Seen::add(&self.seen.run_for_others);
        }
        for job in jobs.iter_mut() {
            job.runs += 1;
            if Some(job.owner) != leader {
                Seen::add(&self.seen.run_by_others);
            }
        }
        results.extend(jobs.iter().map(|job| job.owner));
        if jobs.iter().any(|job| Some(job.owner) == self.fails_for) {
            results.pop();
        }
    }
}

/// What the threads do. The first one is the main thread's.
#[derive(Clone)]
struct Test {
    preemptions: Option<usize>,
    max_batch: usize,
    /// Deadlines of the jobs of each thread.
    jobs: &'static [&'static [u64]],
    fails_for: Option<usize>,
    /// What the main thread does before its jobs.
    disturb: fn(&Lane<Counter>),
}

impl Test {
    fn new(preemptions: Option<usize>, max_batch: usize, jobs: &'static [&'static [u64]]) -> Self {
        Self {
            preemptions,
            max_batch,
            jobs,
            fails_for: None,
            disturb: |_| (),
        }
    }

    /// Runs the test in all interleavings.
    fn explore(self) -> Arc<Seen> {
        let seen = Arc::new(Seen::default());
        let result = seen.clone();
        let mut builder = Builder::new();
        builder.preemption_bound = self.preemptions;
        builder.check(move || self.run(&seen));
        result
    }

    fn run(&self, seen: &Arc<Seen>) {
        Seen::add(&seen.executions);
        let owners = Owners::default();
        let counter = Counter {
            exclusive: UnsafeCell::new(()),
            fails_for: self.fails_for,
            owners: owners.clone(),
            seen: seen.clone(),
        };
        let limits = Limits {
            max_batch: self.max_batch,
            max_submitters: self.jobs.len(),
        };
        let lane = Lane::new(counter, limits);
        let mut threads = Vec::new();
        for owner in (0..self.jobs.len()).rev() {
            let (mut submitter, test) = (lane.submitter().unwrap(), self.clone());
            let (owners, seen) = (owners.clone(), seen.clone());
            let mut run = move || {
                owners.lock().unwrap().push((thread::current().id(), owner));
                test.jobs[owner]
                    .iter()
                    .for_each(|&deadline| test.submit(&mut submitter, owner, Deadline(deadline), &seen));
            };
            match owner {
                0 => {
                    (self.disturb)(&lane);
                    run();
                }
                _ => threads.push(thread::spawn(run)),
            }
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(lane.metrics().pending, 0);
    }

    fn submit(&self, submitter: &mut Submitter<Counter>, owner: usize, deadline: Deadline, seen: &Seen) {
        let (job, result) = submitter.run(Job { owner, runs: 0 }, deadline);
        assert_eq!(job.owner, owner);
        match job.runs {
            1 => (),
            2 => Seen::add(&seen.retried),
            runs => panic!("ran {runs} times"),
        }
        match result {
            Ok(result) => {
                assert!(result == owner && self.fails_for != Some(owner));
                Seen::add(&seen.ok);
            }
            Err(JobFailed) => {
                assert_eq!(self.fails_for, Some(owner));
                Seen::add(&seen.failed);
            }
        }
    }
}

#[test]
fn two_threads() {
    for max_batch in [1, 2] {
        let seen = Test::new(None, max_batch, &[&[1], &[1]]).explore();
        assert_eq!(Seen::get(&seen.ok), 2 * Seen::get(&seen.executions));
        // No batch of two: nothing happens between submitting a job and leading an idle lane.
        assert_eq!(Seen::get(&seen.largest_batch), 1);
    }
}

#[test]
fn two_threads_with_two_jobs() {
    let seen = Test::new(None, 1, &[&[1, 1], &[2, 2]]).explore();
    assert_eq!(Seen::get(&seen.ok), 4 * Seen::get(&seen.executions));
    // A thread came back before the next leader was awake, and led instead.
    assert!(Seen::get(&seen.run_for_others) > 0);
}

#[test]
fn three_threads() {
    for max_batch in [1, 3] {
        let seen = Test::new(Some(4), max_batch, &[&[1], &[2], &[3]]).explore();
        assert_eq!(Seen::get(&seen.ok), 3 * Seen::get(&seen.executions));
        assert_eq!(Seen::get(&seen.largest_batch), max_batch.min(2));
        assert!(Seen::get(&seen.run_by_others) > 0);
        // A leader whose own job did not fit in the batch leads again.
        assert_eq!(Seen::get(&seen.run_for_others) > 0, max_batch == 1);
    }
}

#[test]
fn failed_batch() {
    let test = Test::new(Some(4), 2, &[&[1], &[2], &[3]]);
    let seen = Test {
        fails_for: Some(1),
        ..test
    }
    .explore();
    let (executions, failed) = (Seen::get(&seen.executions), Seen::get(&seen.failed));
    assert_eq!(failed + Seen::get(&seen.ok), 3 * executions);
    assert_eq!(failed, executions);
    // Alone, and with others.
    let retried = Seen::get(&seen.retried);
    assert!(retried > 0 && retried < 2 * executions);
}

#[test]
fn spurious_wake_ups() {
    let test = Test::new(Some(4), 1, &[&[], &[1], &[2]]);
    let disturb = |lane: &Lane<Counter>| {
        let wakers = lane.lock().wakers();
        wakers.iter().for_each(|waker| waker.notify_one());
    };
    let seen = Test { disturb, ..test }.explore();
    assert_eq!(Seen::get(&seen.ok), 2 * Seen::get(&seen.executions));
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Many threads with random jobs.

use std::sync::{Barrier, OnceLock};

use super::*;

const MAX_BATCH: usize = 3;

/// A job. Its deadline tells it from all others.
#[derive(Debug)]
struct Task {
    deadline: Deadline,
    runs: usize,
    fails: bool,
}

/// Checks each batch.
struct Checker {
    lane: Arc<OnceLock<Lane<Checker>>>,
    /// Deadlines of jobs that were pending while the last batch ran, and so when this one was formed.
    pending: Vec<Deadline>,
    /// Those of the last batch that have not run again, if it failed.
    to_retry: Vec<Deadline>,
    /// A failed check would only be a job that fails.
    errors: mpsc::Sender<&'static str>,
}

impl Checker {
    fn expect(&self, holds: bool, error: &'static str) {
        if !holds {
            self.errors.send(error).ok();
        }
    }
}

impl Executor for Checker {
    type Job = Task;
    type Output = Deadline;

    fn run(&mut self, tasks: &mut [Task], results: &mut Vec<Deadline>) {
        let is_retry = !self.to_retry.is_empty();
        if is_retry {
            let next = self.to_retry.remove(0);
            self.expect(
                tasks.len() == 1 && tasks[0].deadline == next,
                "should run again alone, in order",
            );
        } else {
            let last = tasks[tasks.len() - 1].deadline;
            self.expect(tasks.len() <= MAX_BATCH, "too many jobs");
            self.expect(
                tasks.is_sorted_by_key(|task| task.deadline),
                "not in the order of deadlines",
            );
            for &deadline in &self.pending {
                let is_missing = tasks.iter().all(|task| task.deadline != deadline);
                self.expect(
                    !is_missing || tasks.len() == MAX_BATCH && deadline > last,
                    "a job should be in the batch",
                );
            }
        }
        self.expect(
            tasks.iter().all(|task| task.runs == usize::from(is_retry)),
            "runs again",
        );
        // As long as a real batch takes, more jobs arrive.
        thread::sleep(Duration::from_micros(20));
        self.pending = self.lane.get().unwrap().lock().pending();
        results.extend(tasks.iter().map(|task| task.deadline));
        tasks.iter_mut().for_each(|task| task.runs += 1);
        if tasks.iter().any(|task| task.fails) {
            if !is_retry && tasks.len() > 1 {
                self.to_retry = results.clone();
            }
            resume_unwind(Box::new("fails"));
        }
    }
}

/// A number that looks random.
fn scramble(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 31
}

#[test]
fn many_threads() {
    check_many_threads(false);
}

#[test]
fn many_threads_that_wake_up_for_no_reason() {
    check_many_threads(true);
}

fn check_many_threads(wake_all: bool) {
    const THREADS: u64 = 12;
    const TASKS: u64 = 300;
    let lane = Arc::new(OnceLock::new());
    let errors = mpsc::channel();
    let checker = Checker {
        lane: lane.clone(),
        pending: Vec::new(),
        to_retry: Vec::new(),
        errors: errors.0,
    };
    let limits = Limits {
        max_batch: MAX_BATCH,
        max_submitters: THREADS as usize,
    };
    let lane = lane.get_or_init(|| Lane::new(checker, limits));
    let (sender, ended) = mpsc::channel();
    let all_ready = Arc::new(Barrier::new(THREADS as usize));
    for index in 0..THREADS {
        let (mut submitter, sender) = (lane.submitter().unwrap(), sender.clone());
        let all_ready = all_ready.clone();
        thread::spawn(move || {
            all_ready.wait();
            for number in (0..TASKS).map(|number| number * THREADS + index) {
                let deadline = Deadline((scramble(number) % 1000) << 32 | number);
                let fails = number % 50 == 0;
                let runs = 0;
                let (task, result) = submitter.run(Task { deadline, runs, fails }, deadline);
                assert!(task.deadline == deadline && (1..=2).contains(&task.runs));
                assert_eq!(result, if fails { Err(JobFailed) } else { Ok(deadline) });
            }
            sender.send(()).unwrap();
        });
    }
    drop(sender);
    let start = Instant::now();
    for _ in 0..THREADS {
        loop {
            match ended.recv_timeout(Duration::from_millis(1)) {
                Ok(()) => break,
                Err(error) => assert_eq!(error, mpsc::RecvTimeoutError::Timeout, "a thread has failed"),
            }
            assert!(start.elapsed() < PATIENCE, "threads wait for ever");
            if wake_all {
                let wakers = lane.lock().wakers();
                wakers.iter().for_each(|waker| waker.notify_one());
            }
        }
    }
    let metrics = lane.metrics();
    assert_eq!((metrics.jobs, metrics.pending), (THREADS * TASKS, 0));
    let jobs: u64 = sizes(&metrics).iter().map(|&(size, count)| size as u64 * count).sum();
    assert_eq!(jobs, metrics.jobs);
    assert_eq!(errors.1.try_recv(), Err(mpsc::TryRecvError::Empty));
    assert_eq!(
        metrics.failed_jobs,
        (0..THREADS * TASKS).filter(|number| number % 50 == 0).count() as u64
    );
    // Otherwise this has tested little.
    assert!(metrics.batches < jobs && metrics.retried_jobs > 0);
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tests with threads and an executor that waits for permission, so that what happens meanwhile is known. Time is
//! virtual: only the timeouts of what must not hang are real.

mod order;
mod random;
mod robustness;
mod starvation;
mod state;
mod times;

use std::{
    panic::resume_unwind,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use super::*;

/// After this, a test has found a thread that waits for ever.
const PATIENCE: Duration = Duration::from_secs(30);

/// The job that occupies the lane while a test prepares the next batch.
const FIRST: u32 = 1000;

/// How a batch ends.
enum Permit {
    Complete,
    Panic,
    /// Panics with something that panics again when it is dropped.
    PanicTwice,
    /// One more result than there are jobs, or one less.
    Miscount(i32),
}

struct PanicOnDrop;

impl Drop for PanicOnDrop {
    fn drop(&mut self) {
        resume_unwind(Box::new("dropped"));
    }
}

/// The name of a job that has run, and the thread that ran it.
type Ended = Result<(u32, ThreadId), JobFailed>;

/// Reports each batch, and waits for a permit before it completes. A job is its name.
struct Gate {
    started: mpsc::Sender<Vec<u32>>,
    permits: mpsc::Receiver<Permit>,
}

impl Executor for Gate {
    type Job = u32;
    type Output = (u32, ThreadId);

    fn run(&mut self, jobs: &mut [u32], results: &mut Vec<(u32, ThreadId)>) {
        assert!(results.is_empty());
        results.extend(jobs.iter().map(|&name| (name, thread::current().id())));
        // A test that has ended takes no more reports, and gives no more permits.
        self.started.send(jobs.to_vec()).ok();
        match self.permits.recv().unwrap_or(Permit::Complete) {
            Permit::Complete => (),
            Permit::Panic => resume_unwind(Box::new("batch")),
            Permit::PanicTwice => resume_unwind(Box::new(PanicOnDrop)),
            Permit::Miscount(by) if by < 0 => results.truncate(jobs.len() - 1),
            Permit::Miscount(_) => results.push((0, thread::current().id())),
        }
    }
}

/// A clock that stands still unless it is set.
#[derive(Clone, Default)]
struct VirtualClock(Arc<AtomicU64>);

impl VirtualClock {
    fn clock(&self) -> Clock {
        let now = self.0.clone();
        Box::new(move || Duration::from_nanos(now.load(Ordering::SeqCst)))
    }

    fn set(&self, now: Duration) {
        self.0.store(now.as_nanos() as u64, Ordering::SeqCst);
    }
}

/// A lane with a gate.
struct Rig {
    clock: VirtualClock,
    lane: Lane<Gate>,
    started: mpsc::Receiver<Vec<u32>>,
    permits: mpsc::Sender<Permit>,
}

/// A job that was submitted by a thread of its own.
struct Submitted {
    name: u32,
    thread: ThreadId,
    end: mpsc::Receiver<(u32, Ended)>,
}

impl Rig {
    fn new(max_batch: usize) -> Self {
        let (started, permits) = (mpsc::channel(), mpsc::channel());
        let gate = Gate {
            started: started.0,
            permits: permits.1,
        };
        let limits = Limits {
            max_batch,
            max_submitters: 64,
        };
        let clock = VirtualClock::default();
        Self {
            lane: Lane::with_clock(gate, limits, clock.clock()),
            clock,
            started: started.1,
            permits: permits.0,
        }
    }

    /// A lane that runs the job [`FIRST`].
    fn occupied(max_batch: usize) -> (Self, Submitted) {
        let rig = Self::new(max_batch);
        let first = rig.spawn(FIRST, Deadline(0));
        assert_eq!(rig.batch(), [FIRST]);
        (rig, first)
    }

    fn spawn(&self, name: u32, deadline: Deadline) -> Submitted {
        let mut submitter = self.lane.submitter().unwrap();
        let (sender, end) = mpsc::channel();
        let thread = thread::spawn(move || sender.send(submitter.run(name, deadline)).unwrap());
        Submitted {
            name,
            thread: thread.thread().id(),
            end,
        }
    }

    /// Submits a job to a lane that is occupied, and waits until it is pending.
    fn submit(&self, name: u32, deadline: Deadline) -> Submitted {
        let pending = self.lane.metrics().pending + 1;
        let submitted = self.spawn(name, deadline);
        let start = Instant::now();
        while self.lane.metrics().pending < pending {
            assert!(start.elapsed() < PATIENCE, "job {name} does not get in");
            thread::yield_now();
        }
        submitted
    }

    /// The names of jobs in the next batch.
    fn batch(&self) -> Vec<u32> {
        self.started.recv_timeout(PATIENCE).expect("no batch was started")
    }

    /// Ends the running batch.
    fn permit(&self, permit: Permit) {
        self.permits.send(permit).unwrap();
    }

    /// Ends the running batch. The names of jobs in the next one.
    fn next_batch(&self) -> Vec<u32> {
        self.permit(Permit::Complete);
        self.batch()
    }
}

impl Submitted {
    fn end(&self) -> Ended {
        let (name, result) = self.end.recv_timeout(PATIENCE).expect("the job did not come back");
        assert_eq!(name, self.name);
        result
    }

    /// The thread that ran the job.
    fn ran_on(&self) -> ThreadId {
        let (name, thread) = self.end().unwrap();
        assert_eq!(name, self.name);
        thread
    }
}

/// Sizes of batches, and how often each has run.
fn sizes(metrics: &LaneMetrics) -> Vec<(usize, u64)> {
    let sizes = (1..).zip(metrics.batch_sizes.iter().copied());
    sizes.filter(|&(_, count)| count > 0).collect()
}

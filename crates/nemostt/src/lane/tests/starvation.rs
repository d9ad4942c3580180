// SPDX-License-Identifier: MIT OR Apache-2.0

//! No job starves, whatever the others do: a lane under a virtual clock, without threads.

use proptest::prelude::*;

use super::*;
use crate::metrics::Histogram;

const MAX_BATCH: usize = 3;

/// How long a batch takes at most.
const LONGEST_BATCH: Duration = Duration::from_millis(300);

/// How a stream behaves.
#[derive(Debug, Clone)]
struct Behavior {
    class: Class,
    period: Duration,
    /// Whether it submits a job as soon as the last one is done, as one that is behind does. Otherwise, one per period.
    is_eager: bool,
    start: Duration,
}

fn behavior() -> impl Strategy<Value = Behavior> {
    let class = prop_oneof![Just(Class::Live), Just(Class::File)];
    let numbers = (1_u32..20, 0_u32..40);
    (class, numbers, any::<bool>()).prop_map(|(class, (period, start), is_eager)| Behavior {
        class,
        period: period * Duration::from_millis(80),
        is_eager,
        start: start * Duration::from_millis(50),
    })
}

/// Any job.
struct Nothing;

impl Executor for Nothing {
    type Job = ();
    type Output = ();

    fn run(&mut self, jobs: &mut [()], results: &mut Vec<()>) {
        results.extend_from_slice(jobs);
    }
}

/// A job that is pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Pending {
    deadline: Deadline,
    /// In the order of arrival.
    number: usize,
    arrival: Duration,
}

/// A stream in the simulation.
struct Simulated {
    behavior: Behavior,
    slot: usize,
    pending: Option<Pending>,
    /// When its next job arrives.
    next: Duration,
}

struct Simulation {
    state: State<Nothing>,
    clock: VirtualClock,
    /// What all jobs that are done have waited, and all batches have taken.
    queue_delay: Histogram,
    step_time: Histogram,
    streams: Vec<Simulated>,
    now: Duration,
    jobs: usize,
}

impl Simulation {
    fn new(behaviors: &[Behavior]) -> Self {
        let limits = Limits {
            max_batch: MAX_BATCH,
            max_submitters: behaviors.len(),
        };
        let clock = VirtualClock::default();
        let mut state = State::new(Nothing, limits, clock.clock());
        let streams = behaviors.iter().map(|behavior| Simulated {
            behavior: behavior.clone(),
            slot: state.register(Arc::default()).unwrap(),
            pending: None,
            next: behavior.start,
        });
        Self {
            streams: streams.collect(),
            state,
            clock,
            queue_delay: Histogram::default(),
            step_time: Histogram::default(),
            now: Duration::ZERO,
            jobs: 0,
        }
    }

    /// Lets the time until `until` pass: jobs arrive.
    fn advance(&mut self, until: Duration) {
        loop {
            let streams = self.streams.iter_mut();
            let ready = streams.filter(|stream| stream.pending.is_none() && stream.next <= until);
            let Some(stream) = ready.min_by_key(|stream| stream.next) else {
                break;
            };
            let arrival = stream.next.max(self.now);
            let deadline = stream.behavior.class.deadline(arrival, stream.behavior.period);
            self.clock.set(arrival);
            self.state.submit(stream.slot, (), deadline);
            let number = self.jobs;
            stream.pending = Some(Pending {
                deadline,
                number,
                arrival,
            });
            self.jobs += 1;
        }
        self.now = until;
        self.clock.set(until);
    }

    /// Runs a batch that takes `time`. Returns its jobs and those that stay pending, by stream.
    fn batch(&mut self, time: Duration) -> [Vec<(usize, Pending)>; 2] {
        let is_pending = |stream: &Simulated| stream.pending.is_some();
        if !self.streams.iter().any(is_pending) {
            let next = self.streams.iter().map(|stream| stream.next).min().unwrap();
            self.advance(next.max(self.now));
        }
        let pending = self.streams.iter().enumerate();
        let pending: Vec<_> = pending
            .filter_map(|(index, stream)| Some((index, stream.pending?)))
            .collect();
        // Whoever is awake first.
        let leader = self.streams[pending[self.jobs % pending.len()].0].slot;
        let mut engine = self.state.start_batch(leader).unwrap();
        engine.run();
        let start = self.now;
        self.advance(start + time);
        self.step_time.record(time);
        self.state.finish_batch(engine, leader, &mut Vec::new());
        let mut is_done = |(index, _): &(usize, Pending)| self.state.take_done(self.streams[*index].slot).is_some();
        let (done, left): (Vec<_>, Vec<_>) = pending.into_iter().partition(&mut is_done);
        for (index, job) in &done {
            let stream = &mut self.streams[*index];
            stream.pending = None;
            self.queue_delay.record(start - job.arrival);
            stream.next = match stream.behavior.is_eager {
                true => self.now,
                false => self.now.max(job.arrival + stream.behavior.period),
            };
        }
        [done, left]
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// A job waits no longer than its deadline is later than that of the most urgent one that could arrive with it, then for
    /// the running batch, and for one job of each of the others. This also holds if there is more to do than the lane can.
    #[test]
    fn waits_are_limited_and_deadlines_are_in_order(
        behaviors in prop::collection::vec(behavior(), 1..12),
        times in prop::collection::vec(1..=LONGEST_BATCH.as_millis() as u64, 1..150),
    ) {
        let mut simulation = Simulation::new(&behaviors);
        let shortest = behaviors.iter().map(|behavior| behavior.period).min().unwrap();
        let batches = 1 + ((behaviors.len() - 1) / MAX_BATCH) as u32;
        for time in times {
            let before = simulation.now;
            let [done, left] = simulation.batch(Duration::from_millis(time));
            prop_assert!(!done.is_empty() && (done.len() == MAX_BATCH || left.is_empty()));
            let last = done.iter().map(|(_, job)| *job).max();
            prop_assert!(left.iter().all(|(_, job)| Some(*job) > last), "{last:?} was before one of {left:?}");
            for (index, job) in done {
                let Deadline(due) = job.deadline;
                let slack = Duration::from_nanos(due).saturating_sub(job.arrival + shortest);
                let wait = before.saturating_sub(job.arrival);
                prop_assert!(wait <= slack + batches * LONGEST_BATCH, "{:?} waits {wait:?}", behaviors[index]);
            }
        }
        let metrics = &simulation.state.metrics;
        prop_assert_eq!((metrics.queue_delay, metrics.step_time), (simulation.queue_delay, simulation.step_time));
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the lock protects, against a simple model of it, without threads.

use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use crate::metrics::Failures;

const SUBMITTERS: usize = 7;
const MAX_BATCH: usize = 3;

/// What can happen under the lane's lock.
#[derive(Debug, Clone)]
enum Event {
    Submit {
        slot: usize,
        number: u64,
        deadline: u64,
    },
    /// A thread is awake.
    Wake {
        slot: usize,
    },
    /// If it fails, so do jobs with an odd number.
    Finish {
        fails: bool,
    },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..SUBMITTERS, 0..100_u64, 0..4_u64)
            .prop_map(|(slot, number, deadline)| Event::Submit { slot, number, deadline }),
        3 => (0..SUBMITTERS).prop_map(|slot| Event::Wake { slot }),
        2 => prop::bool::weighted(0.2).prop_map(|fails| Event::Finish { fails }),
    ]
}

/// A job is a number, which is also its result.
struct Echo(Arc<AtomicBool>);

impl Executor for Echo {
    type Job = u64;
    type Output = u64;

    fn run(&mut self, jobs: &mut [u64], results: &mut Vec<u64>) {
        results.extend_from_slice(jobs);
        if self.0.load(Ordering::Relaxed) && jobs.iter().any(|&number| is_at_fault(number)) {
            resume_unwind(Box::new("fails"));
        }
    }
}

fn is_at_fault(number: u64) -> bool {
    number % 2 == 1
}

/// The same as a list.
#[derive(Default)]
struct Model {
    /// Deadline, slot, and number, in the order of arrival.
    pending: Vec<(u64, usize, u64)>,
    /// The leader, and the batch.
    running: Option<(usize, Vec<(usize, u64)>)>,
    done: Vec<(usize, u64, Result<u64, JobFailed>)>,
}

impl Model {
    fn is_vacant(&self, slot: usize) -> bool {
        let running = self.running.iter().flat_map(|(_, batch)| batch);
        !self.pending.iter().any(|job| job.1 == slot)
            && !running.into_iter().any(|job| job.0 == slot)
            && !self.done.iter().any(|job| job.0 == slot)
    }

    fn next_batch(&mut self) -> Vec<(usize, u64)> {
        // Stable: equal deadlines stay in their order.
        let mut sorted = self.pending.clone();
        sorted.sort_by_key(|job| job.0);
        let batch: Vec<_> = sorted.iter().take(MAX_BATCH).map(|job| (job.1, job.2)).collect();
        self.pending.retain(|job| !batch.contains(&(job.1, job.2)));
        batch
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn state_is_that_of_the_model(events in prop::collection::vec(event(), 0..120)) {
        let fails = Arc::new(AtomicBool::new(false));
        let limits = Limits { max_batch: MAX_BATCH, max_submitters: SUBMITTERS };
        let mut state = State::new(Echo(fails.clone()), limits, clock::monotonic());
        let slots = [(); SUBMITTERS].map(|()| state.register(Arc::default()).unwrap());
        let all_wakers = state.wakers();
        let waker_slots = |wakers: &[Arc<Condvar>]| -> Vec<usize> {
            let slot = |waker| all_wakers.iter().position(|other| Arc::ptr_eq(waker, other)).unwrap();
            wakers.iter().map(slot).collect()
        };
        let mut model = Model::default();
        let mut engine = None;
        for event in events {
            match event {
                Event::Submit { slot, number, deadline } if model.is_vacant(slot) => {
                    state.submit(slots[slot], number, Deadline(deadline));
                    model.pending.push((deadline, slot, number));
                }
                Event::Submit { .. } => (),
                Event::Wake { slot } => {
                    let done = model.done.iter().position(|job| job.0 == slot);
                    let done = done.map(|index| model.done.swap_remove(index));
                    prop_assert_eq!(state.take_done(slots[slot]), done.map(|job| (job.1, job.2)));
                    let leads = model.running.is_none() && model.pending.iter().any(|job| job.1 == slot);
                    let started = state.start_batch(slots[slot]);
                    prop_assert_eq!(started.is_some(), leads);
                    if leads {
                        model.running = Some((slot, model.next_batch()));
                        engine = started;
                    }
                }
                Event::Finish { fails: does_fail } => {
                    let (Some(mut engine), Some((leader, batch))) = (engine.take(), model.running.take()) else {
                        continue;
                    };
                    fails.store(does_fail, Ordering::Relaxed);
                    engine.run();
                    let at_fault = batch.iter().filter(|job| does_fail && is_at_fault(job.1)).count();
                    let batch_fails = at_fault > 0;
                    let failures = Failures {
                        batch: batch_fails,
                        retried_jobs: if batch_fails && batch.len() > 1 { batch.len() } else { 0 },
                        failed_jobs: at_fault,
                    };
                    prop_assert_eq!(engine.failures(), failures);
                    let mut wakers = Vec::new();
                    state.finish_batch(engine, slots[leader], &mut wakers);
                    let next = model.pending.iter().min_by_key(|job| job.0).map(|job| job.1);
                    let woken = next.into_iter().chain(batch.iter().map(|job| job.0));
                    let woken: Vec<_> = woken.filter(|&slot| slot != leader).collect();
                    prop_assert_eq!(waker_slots(&wakers), woken);
                    let result = |number| match does_fail && is_at_fault(number) {
                        true => Err(JobFailed),
                        false => Ok(number),
                    };
                    model.done.extend(batch.iter().map(|&(slot, number)| (slot, number, result(number))));
                }
            }
            prop_assert_eq!(state.metrics.pending, model.pending.len());
        }
    }
}

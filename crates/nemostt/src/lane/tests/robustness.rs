// SPDX-License-Identifier: MIT OR Apache-2.0

//! Batches that fail, and too many submitters.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

#[test]
fn jobs_of_a_failed_batch_run_again_alone() {
    let failures: [fn() -> Permit; 4] = [
        || Permit::Panic,
        || Permit::PanicTwice,
        || Permit::Miscount(-1),
        || Permit::Miscount(1),
    ];
    for failure in failures {
        let (rig, first) = Rig::occupied(3);
        let jobs = [1, 2, 3, 4].map(|name| rig.submit(name, Deadline(u64::from(name))));
        assert_eq!(rig.next_batch(), [1, 2, 3]);
        rig.permit(failure());
        assert_eq!(rig.batch(), [1]);
        assert_eq!(rig.next_batch(), [2]);
        // It is the one at fault.
        rig.permit(failure());
        assert_eq!(rig.batch(), [3]);
        assert_eq!(rig.next_batch(), [4]);
        rig.permit(Permit::Complete);
        assert_eq!(first.ran_on(), first.thread);
        assert_eq!(jobs[1].end(), Err(JobFailed));
        assert_eq!([0, 2].map(|index: usize| jobs[index].ran_on()), [jobs[0].thread; 2]);
        assert_eq!(jobs[3].ran_on(), jobs[3].thread);
        // Idle again. What is alone is not tried twice.
        rig.permit(failure());
        assert_eq!(rig.spawn(5, Deadline(0)).end(), Err(JobFailed));
        rig.permit(Permit::Complete);
        assert!(rig.spawn(6, Deadline(0)).end().is_ok());
        let metrics = rig.lane.metrics();
        assert_eq!((metrics.batches, metrics.failed_batches), (5, 2));
        assert_eq!((metrics.jobs, metrics.retried_jobs, metrics.failed_jobs), (7, 3, 2));
        assert_eq!(sizes(&metrics), [(1, 4), (3, 1)]);
    }
}

#[test]
fn submitters_are_limited() {
    let limits = Limits {
        max_batch: 0,
        max_submitters: 0,
    };
    for (max_submitters, limit) in [(0, 1), (1, 1), (3, 3)] {
        let (started, permits) = (mpsc::channel().0, mpsc::channel().1);
        let lane = Lane::new(
            Gate { started, permits },
            Limits {
                max_submitters,
                ..limits
            },
        );
        let mut submitters: Vec<_> = (0..limit).map(|_| lane.submitter().unwrap()).collect();
        assert!(lane.submitter().is_none());
        // The place of one that is gone is free.
        submitters.remove(0);
        submitters.push(lane.submitter().unwrap());
        assert!(lane.submitter().is_none());
        assert!(
            submitters
                .iter_mut()
                .all(|submitter| submitter.run(1, Deadline(0)).1.is_ok())
        );
    }
}

#[test]
fn submitters_are_held_back() {
    // Each has one job in the lane, and waits for it.
    let (rig, first) = Rig::occupied(1);
    let jobs = [1, 2, 3].map(|name| rig.submit(name, Deadline(5)));
    assert!(jobs.iter().chain([&first]).all(|job| job.end.try_recv().is_err()));
    assert_eq!(rig.next_batch(), [1]);
    assert!(first.end().is_ok() && jobs.iter().all(|job| job.end.try_recv().is_err()));
    assert_eq!(rig.lane.metrics().pending, 2);
}

#[test]
fn poisoned_lock_is_ignored() {
    let (rig, first) = Rig::occupied(1);
    let waiting = rig.submit(1, Deadline(0));
    let poison = AssertUnwindSafe(|| {
        let _state = rig.lane.lock();
        resume_unwind(Box::new("locked"));
    });
    assert!(catch_unwind(poison).is_err() && rig.lane.0.is_poisoned());
    assert_eq!(rig.next_batch(), [1]);
    rig.permit(Permit::Complete);
    assert!(first.end().is_ok() && waiting.end().is_ok());
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! How long jobs wait and batches take, on a virtual clock. [`super::starvation`] compares both with a simulation, too.

use super::*;
use crate::metrics::Histogram;

const MILLISECOND: Duration = Duration::from_millis(1);

fn of(times: &[u32]) -> Histogram {
    let mut histogram = Histogram::default();
    times.iter().for_each(|&time| histogram.record(time * MILLISECOND));
    histogram
}

#[test]
fn waits_and_batches_are_timed() {
    let (rig, first) = Rig::occupied(2);
    let at = |time: u32| rig.clock.set(time * MILLISECOND);
    at(3);
    let one = rig.submit(1, Deadline(1));
    at(5);
    let (two, three) = (rig.submit(2, Deadline(2)), rig.submit(3, Deadline(3)));
    at(9);
    // Those that are pending do not count.
    assert_eq!(
        (rig.lane.metrics().queue_delay, rig.lane.metrics().step_time),
        (of(&[0]), of(&[]))
    );
    assert_eq!(rig.next_batch(), [1, 2]);
    assert_eq!(
        (rig.lane.metrics().queue_delay, rig.lane.metrics().step_time),
        (of(&[0, 6, 4]), of(&[9]))
    );
    at(30);
    assert_eq!(rig.next_batch(), [3]);
    at(31);
    rig.permit(Permit::Complete);
    assert!([first, one, two, three].iter().all(|job| job.end().is_ok()));
    let metrics = rig.lane.metrics();
    assert_eq!(
        (metrics.queue_delay, metrics.step_time),
        (of(&[0, 6, 4, 25]), of(&[9, 21, 1]))
    );
    assert_eq!((metrics.jobs, metrics.batches), (4, 3));
}

#[test]
fn batch_that_fails_takes_as_long_as_its_jobs() {
    let (rig, first) = Rig::occupied(2);
    let jobs = [1, 2].map(|name| rig.submit(name, Deadline(u64::from(name))));
    assert_eq!(rig.next_batch(), [1, 2]);
    rig.clock.set(10 * MILLISECOND);
    rig.permit(Permit::Panic);
    assert_eq!(rig.batch(), [1]);
    rig.clock.set(14 * MILLISECOND);
    assert_eq!(rig.next_batch(), [2]);
    rig.clock.set(15 * MILLISECOND);
    rig.permit(Permit::Complete);
    assert!(jobs.iter().chain([&first]).all(|job| job.end().is_ok()));
    let metrics = rig.lane.metrics();
    assert_eq!((metrics.step_time, metrics.retried_jobs), (of(&[0, 15]), 2));
    // They did not wait again.
    assert_eq!(metrics.queue_delay, of(&[0, 0, 0]));
}

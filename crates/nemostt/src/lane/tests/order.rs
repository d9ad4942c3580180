// SPDX-License-Identifier: MIT OR Apache-2.0

//! Who runs which jobs, and in which order.

use super::{deadline::FILE_SLACK, *};

const MILLISECOND: Duration = Duration::from_millis(1);
const PERIOD: Duration = Duration::from_millis(80);

#[test]
fn single_job_runs_on_the_calling_thread() {
    let rig = Rig::new(8);
    let mut submitter = rig.lane.submitter().unwrap();
    for name in 0..3 {
        rig.permit(Permit::Complete);
        let result = Ok((name, thread::current().id()));
        assert_eq!(submitter.run(name, Deadline(0)), (name, result));
        assert_eq!(rig.batch(), [name]);
    }
    let metrics = rig.lane.metrics();
    assert_eq!((metrics.batches, metrics.jobs, metrics.max_pending), (3, 3, 1));
}

#[test]
fn batch_forms_while_another_runs() {
    let (rig, first) = Rig::occupied(8);
    let jobs = [1, 2, 3].map(|name| rig.submit(name, Deadline(5)));
    assert_eq!(rig.lane.metrics().pending, 3);
    assert_eq!(rig.next_batch(), [1, 2, 3]);
    assert_eq!(rig.lane.metrics().pending, 0);
    assert_eq!(first.ran_on(), first.thread);
    rig.permit(Permit::Complete);
    // The owner of the most urgent job has led.
    for job in &jobs {
        assert_eq!(job.ran_on(), jobs[0].thread);
    }
    let metrics = rig.lane.metrics();
    assert_eq!((metrics.batches, metrics.jobs, metrics.max_pending), (2, 4, 3));
    assert_eq!(sizes(&metrics), [(1, 1), (3, 1)]);
}

#[test]
fn earliest_deadline_is_first_and_ties_are_in_order_of_arrival() {
    let (rig, _first) = Rig::occupied(8);
    let jobs = [(1, 50), (2, 30), (3, 50), (4, 10), (5, 30), (6, 50)];
    let jobs = jobs.map(|(name, deadline)| rig.submit(name, Deadline(deadline)));
    assert_eq!(rig.next_batch(), [4, 2, 5, 1, 3, 6]);
    rig.permit(Permit::Complete);
    assert_eq!(jobs[0].ran_on(), jobs[3].thread);
}

#[test]
fn batches_are_limited() {
    let (rig, _first) = Rig::occupied(2);
    let jobs = [5, 4, 3, 2, 1].map(|name| rig.submit(name, Deadline(u64::from(name))));
    assert_eq!(rig.next_batch(), [1, 2]);
    assert_eq!(rig.next_batch(), [3, 4]);
    assert_eq!(rig.next_batch(), [5]);
    rig.permit(Permit::Complete);
    // Each batch was led by its first.
    let leaders: Vec<_> = jobs.iter().map(Submitted::ran_on).collect();
    let [five, _, three, _, one] = &jobs;
    let expected = [five, three, three, one, one].map(|job| job.thread);
    assert_eq!(leaders, expected);
    assert_eq!(sizes(&rig.lane.metrics()), [(1, 2), (2, 2)]);
}

#[test]
fn live_job_waits_for_the_running_batch_only() {
    let (rig, _first) = Rig::occupied(4);
    let files = (0..20).map(|name| rig.submit(name, Class::File.deadline(Duration::ZERO, PERIOD)));
    let _files: Vec<_> = files.collect();
    assert_eq!(rig.next_batch(), [0, 1, 2, 3]);
    let live = rig.submit(100, Class::Live.deadline(500 * MILLISECOND, PERIOD));
    assert_eq!(rig.next_batch(), [100, 4, 5, 6]);
    rig.permit(Permit::Complete);
    // It leads its batch itself.
    assert_eq!(live.ran_on(), live.thread);
    assert_eq!(rig.batch(), [7, 8, 9, 10]);
}

#[test]
fn file_job_is_overtaken_for_a_limited_time() {
    let (rig, _first) = Rig::occupied(1);
    let _file = rig.submit(0, Class::File.deadline(Duration::ZERO, PERIOD));
    // More live jobs than the lane can run: one is always pending. Each has arrived 100 ms after the one before.
    let live = |index: u32| Class::Live.deadline(index * 100 * MILLISECOND, PERIOD);
    let mut jobs = vec![rig.submit(1, live(1))];
    let mut order = Vec::new();
    for index in 2..20 {
        jobs.push(rig.submit(index, live(index)));
        order.extend(rig.next_batch());
    }
    // At 1000 ms the deadlines are equal, and the file was there first.
    assert_eq!(FILE_SLACK, 1000 * MILLISECOND);
    assert_eq!(order[..12], [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 10, 11]);
}

#[test]
fn who_is_awake_first_leads() {
    // Without threads, so that the chosen leader does not wake up.
    let rig = Rig::new(2);
    let mut state = rig.lane.lock();
    let slots: Vec<_> = (0..3).map(|_| state.register(Arc::default()).unwrap()).collect();
    state.submit(slots[0], 0, Deadline(0));
    let mut engine = state.start_batch(slots[0]).unwrap();
    rig.permit(Permit::Complete);
    engine.run();
    state.submit(slots[1], 1, Deadline(1));
    state.finish_batch(engine, slots[0], &mut Vec::new());
    state.submit(slots[2], 2, Deadline(2));
    let mut engine = state.start_batch(slots[2]).unwrap();
    assert_eq!(engine.len(), 2);
    rig.permit(Permit::Complete);
    engine.run();
    // Now the chosen one does, and waits for its result.
    assert!(state.start_batch(slots[1]).is_none() && state.take_done(slots[1]).is_none());
    let mut wakers = Vec::new();
    state.finish_batch(engine, slots[2], &mut wakers);
    assert!(wakers.len() == 1 && Arc::ptr_eq(&wakers[0], &state.wakers()[slots[1]]));
    assert!(state.take_done(slots[1]).is_some());
}

#[test]
fn deadlines_saturate() {
    assert_eq!(Class::Live.deadline(PERIOD, PERIOD), Deadline(160_000_000));
    assert_eq!(Class::File.deadline(PERIOD, PERIOD), Deadline(1_160_000_000));
    assert_eq!(Class::File.deadline(Duration::MAX, PERIOD), Deadline(u64::MAX));
}

// SPDX-License-Identifier: MIT OR Apache-2.0

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

/// Runs of one team. Miri takes a second for each.
const ROUNDS: usize = if cfg!(miri) { 2 } else { 50 };

/// Runs phases on a thread for each list of workers, which the thread runs one after the other. The first is the caller.
fn check(workers: usize, phases: &[usize], threads: &[&[usize]]) {
    let mut team = Team::new(workers);
    assert_eq!(team.workers(), workers);
    for _ in 0..ROUNDS {
        team.reset();
        let counts: Vec<Vec<AtomicUsize>> = phases
            .iter()
            .map(|&task_count| (0..task_count).map(|_| AtomicUsize::new(0)).collect())
            .collect();
        let (team, counts) = (&team, &counts);
        std::thread::scope(|scope| {
            for (index, list) in threads.iter().enumerate() {
                let role = role(index);
                scope.spawn(move || {
                    for &worker in *list {
                        let work = |phase: usize, task: usize| {
                            // All earlier phases are done, no later one has started.
                            let is_done = |count: &AtomicUsize| count.load(Ordering::Relaxed) == 1;
                            assert!(counts[..phase].iter().flatten().all(is_done));
                            let later = counts[phase + 1..].iter().flatten();
                            assert!(later.into_iter().all(|count| count.load(Ordering::Relaxed) == 0));
                            counts[phase][task].fetch_add(1, Ordering::Relaxed);
                        };
                        team.run(worker, role, phases, work, |_| ());
                        let all = || counts.iter().flatten().map(|count| count.load(Ordering::Relaxed));
                        assert!(role == Role::Helper || all().all(|count| count == 1));
                    }
                });
            }
        });
        assert!(counts.iter().flatten().all(|count| count.load(Ordering::Relaxed) == 1));
    }
}

fn role(index: usize) -> Role {
    match index {
        0 => Role::Caller,
        _ => Role::Helper,
    }
}

#[test]
fn each_task_runs_once_in_its_phase() {
    let phases = [4, 1, 7, 0, 16, 2, 1, 1, 9];
    check(1, &phases, &[&[0]]);
    check(2, &phases, &[&[0], &[1]]);
    check(3, &phases, &[&[2], &[0], &[1]]);
}

#[test]
fn absent_or_late_worker_does_not_block() {
    let phases = [4, 1, 7, 0, 16, 2, 1, 1, 9];
    check(2, &phases, &[&[1]]);
    check(2, &phases, &[&[0, 1]]);
    check(4, &phases, &[&[3, 0], &[2, 1]]);
    check(4, &phases, &[&[1], &[2]]);
}

#[test]
fn panicked_worker_does_not_block() {
    let phases = [4, 3, 4];
    let mut team = Team::new(2);
    for _ in 0..ROUNDS {
        team.reset();
        let last = AtomicUsize::new(0);
        let go = |worker: usize| {
            let work = |phase: usize, task: usize| {
                last.fetch_max(phase, Ordering::Relaxed);
                assert!((phase, task) != (1, 2), "expected");
            };
            catch_unwind(AssertUnwindSafe(|| {
                team.run(worker, role(worker), &phases, work, |_| ())
            }))
            .is_err()
        };
        let panics = std::thread::scope(|scope| {
            let go = &go;
            let threads = [0, 1].map(|worker| scope.spawn(move || go(worker)));
            threads.map(|thread| thread.join().unwrap())
        });
        assert_eq!(panics.iter().filter(|&&panicked| panicked).count(), 1);
        assert_eq!(last.into_inner(), 1, "the last phase does not start");
    }
    // The next run is not affected.
    check(2, &phases, &[&[0], &[1]]);
}

/// Whether a thread sleeps. One that spins or yields does not.
#[cfg(all(target_os = "linux", not(miri)))]
fn sleeps(thread: &std::path::Path) -> bool {
    let status = std::fs::read_to_string(std::path::Path::new("/proc").join(thread).join("status")).unwrap();
    status.lines().any(|line| line.starts_with("State:\tS"))
}

/// In each phase, one worker runs a task until the other, which has none, sleeps.
#[cfg(all(target_os = "linux", not(miri)))]
#[test]
fn long_waiting_worker_sleeps_and_is_woken() {
    use std::{
        fs::read_link,
        sync::mpsc::channel,
        thread::yield_now,
        time::{Duration, Instant},
    };

    const PHASES: [usize; 20] = [1; 20];
    let mut team = Team::new(2);
    for (worker, waiter) in [(Role::Helper, Role::Caller), (Role::Caller, Role::Helper)] {
        team.reset();
        let (is_begun, begun) = channel();
        let (tell, told) = channel();
        std::thread::scope(|scope| {
            let team = &team;
            let waits = scope.spawn(move || {
                begun.recv().unwrap();
                tell.send(read_link("/proc/thread-self").unwrap()).unwrap();
                team.run(0, waiter, &PHASES, |_, _| (), |_| ());
            });
            let mut thread = None;
            let work = |phase: usize, _| {
                // A helper does not wait for the end.
                if waiter == Role::Helper && phase + 1 == PHASES.len() {
                    return;
                }
                let thread: &std::path::PathBuf = thread.get_or_insert_with(|| {
                    is_begun.send(()).unwrap();
                    told.recv().unwrap()
                });
                let start = Instant::now();
                while !sleeps(thread) {
                    assert!(
                        start.elapsed() < Duration::from_secs(20),
                        "the other worker does not sleep"
                    );
                    yield_now();
                }
            };
            team.run(1, worker, &PHASES, work, |_| ());
            waits.join().unwrap();
        });
    }
}

#[test]
fn team_size_is_clamped() {
    assert_eq!((Team::new(0).workers(), Team::new(1000).workers()), (1, MAX_WORKERS));
}

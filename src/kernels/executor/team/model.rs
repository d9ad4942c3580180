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
//! spinning, of which one look is left; time, so [`doze`] is a turn for the others; more than three threads; and orders in which threads are
//! interrupted more often than a test says. A panic is what unwinding does here, for loom's threads are one of the system's, of
//! which only one can unwind.

use loom::{cell::UnsafeCell, model::Builder, sync::Arc, thread};

use super::*;

/// What pieces write.
struct Pieces(Vec<Vec<UnsafeCell<usize>>>);

// SAFETY: loom checks that accesses do not overlap: it is what is tested.
#[allow(unsafe_code)]
unsafe impl Sync for Pieces {}

impl Pieces {
    fn new(phases: &[usize]) -> Self {
        let phase = |&pieces: &usize| (0..pieces).map(|_| UnsafeCell::new(0)).collect();
        Self(phases.iter().map(phase).collect())
    }

    /// How often a piece was done, and once more if `more`.
    fn count(&self, phase: usize, piece: usize, more: bool) -> usize {
        let cell = &self.0[phase][piece];
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
        let mut all = all.flat_map(|(phase, pieces)| (0..pieces.len()).map(move |piece| (phase, piece)));
        all.all(|(phase, piece)| self.count(phase, piece, false) == 1)
    }
}

/// A team at work.
struct Scene {
    team: Team,
    phases: &'static [usize],
    pieces: Pieces,
}

impl Scene {
    fn new(members: usize, phases: &'static [usize]) -> Arc<Self> {
        let mut team = Team::new(members);
        team.gather();
        Arc::new(Self {
            team,
            phases,
            pieces: Pieces::new(phases),
        })
    }

    fn work(&self, member: usize, role: Role) {
        let work = |phase: usize, piece: usize| {
            assert!(self.pieces.are_done(phase));
            assert_eq!(self.pieces.count(phase, piece, true), 1);
        };
        self.team.work(member, role, self.phases, work, |_| ());
    }

    /// Whether this member took a piece of its own share in the first phase, and panicked.
    fn panic(&self, member: usize) -> bool {
        let members = self.team.members();
        let range = member * self.phases[0] / members..(member + 1) * self.phases[0] / members;
        let helps = Helps::new(&self.team.helpers.0);
        let taken = self.team.take(member, 1, &range);
        if taken.is_some() {
            drop(Breaks(&self.team.done.0));
        }
        drop(helps);
        taken.is_some()
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
        let members = threads
            .iter()
            .flat_map(|list| list.iter())
            .max()
            .map_or(1, |most| most + 1);
        let scene = Scene::new(members, phases);
        let helpers: Vec<_> = threads[1..]
            .iter()
            .map(|list| {
                let scene = scene.clone();
                thread::spawn(move || list.iter().for_each(|&member| scene.work(member, Role::Helper)))
            })
            .collect();
        for &member in threads[0] {
            scene.work(member, Role::Caller);
            // The caller goes on with what all have written.
            assert!(scene.pieces.are_done(phases.len()));
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
            let tally = Arc::new(Tally::default());
            let waits = || {
                let tally = tally.clone();
                thread::spawn(move || tally.wait(1).is_err())
            };
            let waiting = [waits(), waits()];
            match breaks {
                true => tally.give_up(),
                false => tally.add(1, 1),
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
    for members in [2, 3] {
        explore(Some(1), move || {
            let scene = Scene::new(members, &[3, 1]);
            let panics = {
                let scene = scene.clone();
                thread::spawn(move || scene.panic(members - 1))
            };
            let helper = (members > 2).then(|| {
                let scene = scene.clone();
                thread::spawn(move || scene.work(1, Role::Helper))
            });
            scene.work(0, Role::Caller);
            if let Some(helper) = helper {
                helper.join().unwrap();
            }
            assert!(panics.join().unwrap() || scene.pieces.are_done(2));
        });
    }
}

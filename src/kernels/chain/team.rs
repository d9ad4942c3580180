// SPDX-License-Identifier: MIT OR Apache-2.0

//! Threads that go through the phases of a chain together.
//!
//! A phase is a number of pieces, of which each member has an equal share; whoever is done with its own takes of the others'.
//! Nobody goes on to the next phase before all pieces of this one are done. Nobody waits for a member that has not come: what
//! is its share is done by the others, and when it comes at last it finds nothing left to do. So it does not matter on how
//! many threads the members really run, nor whether they run at the same time.

use std::{
    hint::spin_loop,
    ops::Range,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    thread::yield_now,
};

/// Turns of a loop that waits for others before it lets other threads run: about 50 µs. Whoever is waited for is at work, and
/// done sooner, unless the system took its processor away.
const PATIENCE: usize = 1000;

/// More members have nothing to do: phases have a few dozen pieces.
const MOST_MEMBERS: usize = 64;

/// A line of the processor's cache of its own (two, for they are fetched in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line<T>(T);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Team {
    /// How many pieces of each member's share are taken, and of which phase, counted from 1: see [`packed`].
    taken: Box<[Line<AtomicU64>]>,
    /// Pieces that are done, of all phases.
    done: Line<AtomicUsize>,
    /// Whether a member panicked: the rest will not be done.
    is_broken: AtomicBool,
}

/// Tells the others when it is dropped, which is in a panic.
struct Breaks<'a>(&'a AtomicBool);

impl Drop for Breaks<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A phase and a count in one number, so that both change at once.
fn packed(phase: usize, count: usize) -> u64 {
    (phase as u64) << 32 | count as u64
}

impl Team {
    pub(super) fn new(members: usize) -> Self {
        Self {
            taken: (0..members.clamp(1, MOST_MEMBERS)).map(|_| Line::default()).collect(),
            done: Line::default(),
            is_broken: AtomicBool::new(false),
        }
    }

    pub(super) fn members(&self) -> usize {
        self.taken.len()
    }

    /// Gets ready for the first phase. Nobody may be at work.
    pub(super) fn gather(&mut self) {
        for taken in &mut self.taken {
            *taken.0.get_mut() = 0;
        }
        *self.done.0.get_mut() = 0;
        *self.is_broken.get_mut() = false;
    }

    /// Goes through `phases`, numbers of pieces, as member `member`. `work` gets the index of a phase and a piece of it, each
    /// of which is done once; `rest` the index of the phase that is next, before its pieces can be begun.
    /// If one of them panics, this member does, too, and the others end without the next phase.
    pub(super) fn work(
        &self,
        member: usize,
        phases: &[usize],
        mut work: impl FnMut(usize, usize),
        mut rest: impl FnMut(usize),
    ) {
        let members = self.members();
        let breaks = Breaks(&self.is_broken);
        let mut all = 0;
        for (index, &pieces) in phases.iter().enumerate() {
            all += pieces;
            let mut done = 0;
            for share in (member..members).chain(0..member) {
                let range = share * pieces / members..(share + 1) * pieces / members;
                while let Some(piece) = self.take(share, index + 1, &range) {
                    work(index, piece);
                    done += 1;
                }
            }
            // What was written is seen by whoever sees that it is done.
            self.done.0.fetch_add(done, Ordering::Release);
            rest(index + 1);
            let mut turns = 0;
            while self.done.0.load(Ordering::Acquire) < all {
                if self.is_broken.load(Ordering::Relaxed) {
                    return std::mem::forget(breaks);
                }
                turns += 1;
                match turns % PATIENCE {
                    0 => yield_now(),
                    _ => spin_loop(),
                }
            }
        }
        std::mem::forget(breaks);
    }

    /// A piece of a member's share in a phase that nobody has taken yet.
    fn take(&self, share: usize, phase: usize, range: &Range<usize>) -> Option<usize> {
        let taken = &self.taken[share].0;
        let mut seen = taken.load(Ordering::Relaxed);
        loop {
            let count = match seen {
                // Somebody is there who has the phase behind him: nothing is left of it.
                later if later >= packed(phase + 1, 0) => return None,
                now if now >= packed(phase, 0) => (now - packed(phase, 0)) as usize,
                _ => 0,
            };
            if count >= range.len() {
                return None;
            }
            let next = packed(phase, count + 1);
            match taken.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(range.start + count),
                Err(now) => seen = now,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::atomic::AtomicUsize,
    };

    use super::*;

    /// Goes through phases on as many threads as `threads` has lists of members, each one after the other.
    fn check(members: usize, phases: &[usize], threads: &[&[usize]]) {
        let mut team = Team::new(members);
        assert_eq!(team.members(), members);
        for _ in 0..50 {
            team.gather();
            let counts: Vec<Vec<AtomicUsize>> = phases
                .iter()
                .map(|&pieces| (0..pieces).map(|_| AtomicUsize::new(0)).collect())
                .collect();
            let (team, counts) = (&team, &counts);
            std::thread::scope(|scope| {
                for list in threads {
                    scope.spawn(move || {
                        for &member in *list {
                            let work = |phase: usize, piece: usize| {
                                // All before is done, nothing behind is begun.
                                let is_done = |count: &AtomicUsize| count.load(Ordering::Relaxed) == 1;
                                assert!(counts[..phase].iter().flatten().all(is_done));
                                let later = counts[phase + 1..].iter().flatten();
                                assert!(later.into_iter().all(|count| count.load(Ordering::Relaxed) == 0));
                                counts[phase][piece].fetch_add(1, Ordering::Relaxed);
                            };
                            team.work(member, phases, work, |_| ());
                        }
                    });
                }
            });
            assert!(counts.iter().flatten().all(|count| count.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn each_piece_is_done_once_and_in_its_phase() {
        let phases = [4, 1, 7, 0, 16, 2, 1, 1, 9];
        check(1, &phases, &[&[0]]);
        check(2, &phases, &[&[0], &[1]]);
        check(3, &phases, &[&[2], &[0], &[1]]);
    }

    #[test]
    fn a_member_that_never_comes_or_comes_late_is_not_waited_for() {
        let phases = [4, 1, 7, 0, 16, 2, 1, 1, 9];
        check(2, &phases, &[&[1]]);
        check(2, &phases, &[&[0, 1]]);
        check(4, &phases, &[&[3, 0], &[2, 1]]);
        check(4, &phases, &[&[1], &[2]]);
    }

    #[test]
    fn no_member_waits_for_one_that_panicked() {
        let phases = [4, 3, 4];
        let mut team = Team::new(2);
        for _ in 0..50 {
            team.gather();
            let last = AtomicUsize::new(0);
            let go = |member: usize| {
                let work = |phase: usize, piece: usize| {
                    last.fetch_max(phase, Ordering::Relaxed);
                    assert!((phase, piece) != (1, 2), "meant");
                };
                catch_unwind(AssertUnwindSafe(|| team.work(member, &phases, work, |_| ()))).is_err()
            };
            let panics = std::thread::scope(|scope| {
                let go = &go;
                let threads = [0, 1].map(|member| scope.spawn(move || go(member)));
                threads.map(|thread| thread.join().unwrap())
            });
            assert_eq!(panics.iter().filter(|&&panicked| panicked).count(), 1);
            assert_eq!(last.into_inner(), 1, "the last phase is not begun");
        }
        // The next run is as any.
        check(2, &phases, &[&[0], &[1]]);
    }

    #[test]
    fn a_team_has_a_member_and_not_too_many() {
        assert_eq!((Team::new(0).members(), Team::new(1000).members()), (1, MOST_MEMBERS));
    }
}

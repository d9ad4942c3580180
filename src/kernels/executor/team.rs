// SPDX-License-Identifier: MIT OR Apache-2.0

//! Threads that go through the phases of a chain together.
//!
//! A phase is a number of pieces, of which each member has an equal share; whoever is done with its own takes of the others'.
//! Nobody goes on to the next phase before all pieces of this one are done. Nobody waits for a member that has not come: what
//! is its share is done by the others, and when it comes at last it finds nothing left to do. So it does not matter on how
//! many threads the members really run, nor whether they run at the same time.
//!
//! Who waits for pieces that others have taken sleeps if it takes long: see [`tally`].

#[cfg(test)]
#[cfg(loom)]
mod model;
mod sync;
mod tally;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;

use std::ops::Range;

use self::{
    sync::{AtomicU64, AtomicUsize, Ordering, doze, spin},
    tally::Tally,
};

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
    done: Line<Tally>,
    /// Members at work on other threads than the caller's.
    helpers: Line<AtomicUsize>,
}

/// On which thread a member is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The one that called the members together, and goes on when all is done.
    Caller,
    Helper,
}

/// Tells the others when it is dropped, which is in a panic.
struct Breaks<'a>(&'a Tally);

impl Drop for Breaks<'_> {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

/// A helper that has come.
struct Helps<'a>(&'a AtomicUsize);

impl<'a> Helps<'a> {
    fn new(helpers: &'a AtomicUsize) -> Self {
        helpers.fetch_add(1, Ordering::Relaxed);
        Self(helpers)
    }
}

impl Drop for Helps<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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
            helpers: Line::default(),
        }
    }

    pub(super) fn members(&self) -> usize {
        self.taken.len()
    }

    /// Gets ready for the first phase. Nobody may be at work.
    pub(super) fn gather(&mut self) {
        for taken in &mut self.taken {
            taken.0.store(0, Ordering::Relaxed);
        }
        self.done.0.clear();
    }

    /// Goes through `phases`, numbers of pieces, as member `member`. `work` gets the index of a phase and a piece of it, each
    /// of which is done once; `rest` the index of the phase that is next, before its pieces can be begun.
    /// All is done when the caller's call ends. A helper's ends when there is nothing left to take.
    /// If one of them panics, this member does, too, and the others end without the next phase.
    pub(super) fn work(
        &self,
        member: usize,
        role: Role,
        phases: &[usize],
        mut work: impl FnMut(usize, usize),
        mut rest: impl FnMut(usize),
    ) {
        let members = self.members();
        let helps = (role == Role::Helper).then(|| Helps::new(&self.helpers.0));
        let breaks = Breaks(&self.done.0);
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
            self.done.0.add(done, all);
            // What comes next is not ours.
            if role == Role::Helper && index + 1 == phases.len() {
                break;
            }
            rest(index + 1);
            if self.done.0.wait(all).is_err() {
                break;
            }
        }
        std::mem::forget(breaks);
        drop(helps);
        if role == Role::Caller {
            self.see_off();
        }
    }

    /// Waits until all helpers that have come are gone.
    ///
    /// ONNX Runtime waits for them, too, but in a loop (`EndParallelSectionInternal` in its `EigenNonBlockingThreadPool.h`),
    /// which may hold the processor that they need. They have no more to do than to leave. That they do not wake anybody is
    /// meant: a woken thread may take their processor at once, before they have told ONNX Runtime. Who sleeps by the clock
    /// lets them go on.
    fn see_off(&self) {
        let are_gone = || (self.helpers.0.load(Ordering::Relaxed) == 0).then_some(());
        if spin(are_gone).is_some() {
            return;
        }
        while are_gone().is_none() {
            doze();
        }
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

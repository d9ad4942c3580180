// SPDX-License-Identifier: MIT OR Apache-2.0

//! Synchronization primitives of the team: those of std, or those of loom in a build with `--cfg loom`, in which
//! [`model`](super::model) explores the interleavings of threads.

#[cfg(not(loom))]
use std::{
    hint::spin_loop,
    thread::sleep,
    time::{Duration, Instant},
};

#[cfg(loom)]
pub(super) use loom::{
    sync::{
        Condvar, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::yield_now as backoff_sleep,
};
#[cfg(not(loom))]
pub(super) use std::sync::{
    Condvar, Mutex,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// How long a thread spins. Waits are shorter unless the other thread has been preempted.
#[cfg(not(loom))]
const SPIN_TIME: Duration = Duration::from_micros(50);

/// Polls between reads of the clock, which take longer than a poll.
#[cfg(not(loom))]
const SPINS_PER_CLOCK_CHECK: usize = 100;

/// Calls `poll` until it returns a result, for a short time.
#[cfg(not(loom))]
pub(super) fn spin<T>(poll: impl Fn() -> Option<T>) -> Option<T> {
    let mut start = None;
    loop {
        for _ in 0..SPINS_PER_CLOCK_CHECK {
            if let Some(found) = poll() {
                return Some(found);
            }
            spin_loop();
        }
        if start.get_or_insert_with(Instant::now).elapsed() >= SPIN_TIME {
            return None;
        }
    }
}

/// For loom, more polls are no other interleavings.
#[cfg(loom)]
pub(super) fn spin<T>(poll: impl Fn() -> Option<T>) -> Option<T> {
    poll()
}

/// Sleeps for a moment, so that another thread can use this core.
#[cfg(not(loom))]
pub(super) fn backoff_sleep() {
    sleep(SPIN_TIME);
}

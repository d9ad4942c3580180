// SPDX-License-Identifier: MIT OR Apache-2.0

//! What members share: std's, or loom's in a build with `--cfg loom`, where [`model`](super::model) goes through the orders in
//! which threads can meet.

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

/// For how long a thread spins. What it waits for comes sooner, unless the system took another thread's processor away.
#[cfg(not(loom))]
const SPIN_TIME: Duration = Duration::from_micros(50);

/// Looks between two at the clock, which takes longer than they do.
#[cfg(not(loom))]
const SPINS_PER_CLOCK_CHECK: usize = 100;

/// What `look` finds, if it does within a moment.
#[cfg(not(loom))]
pub(super) fn spin<T>(look: impl Fn() -> Option<T>) -> Option<T> {
    let mut start = None;
    loop {
        for _ in 0..SPINS_PER_CLOCK_CHECK {
            if let Some(found) = look() {
                return Some(found);
            }
            spin_loop();
        }
        if start.get_or_insert_with(Instant::now).elapsed() >= SPIN_TIME {
            return None;
        }
    }
}

/// One look is all there is to try.
#[cfg(loom)]
pub(super) fn spin<T>(look: impl Fn() -> Option<T>) -> Option<T> {
    look()
}

/// Sleeps for a moment, in which another thread gets this one's processor.
#[cfg(not(loom))]
pub(super) fn backoff_sleep() {
    sleep(SPIN_TIME);
}

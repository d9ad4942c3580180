// SPDX-License-Identifier: MIT OR Apache-2.0

//! Aborts the process if a run hangs, so that the fuzzer reports it.

use std::{
    sync::{
        Once,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Seconds. A normal run takes a fraction of a second.
const TIMEOUT: u64 = 20;

/// Number of runs started plus number of runs finished.
static RUNS: AtomicU64 = AtomicU64::new(0);

/// Alive during a run.
pub struct Watched;

impl Watched {
    pub fn begin() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            std::thread::spawn(watch);
        });
        RUNS.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        RUNS.fetch_add(1, Ordering::Relaxed);
    }
}

fn watch() {
    let (mut known, mut seconds) = (0, 0);
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let now = RUNS.load(Ordering::Relaxed);
        seconds = if now == known { seconds + 1 } else { 0 };
        known = now;
        // An even number means that no run is active. The fuzzer may take any time between runs.
        if known % 2 == 1 && seconds >= TIMEOUT {
            eprintln!("a deadlock: the run did not end within {TIMEOUT} s");
            std::process::abort();
        }
    }
}

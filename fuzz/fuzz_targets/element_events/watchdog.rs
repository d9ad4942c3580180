// SPDX-License-Identifier: MIT OR Apache-2.0

//! Ends the process, and so tells the fuzzer, if a run does not end.

use std::{
    sync::{
        Once,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// A run takes a fraction of a second.
const PATIENCE: u64 = 20;

/// Runs begun and ended, and seconds since the last of either.
static RUNS: AtomicU64 = AtomicU64::new(0);

/// While this is alive, a run is under way.
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
        // Between two runs the fuzzer may take as long as it likes.
        if known % 2 == 1 && seconds >= PATIENCE {
            eprintln!("a deadlock: nothing ended for {PATIENCE} s");
            std::process::abort();
        }
    }
}

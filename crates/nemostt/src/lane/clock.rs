// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a lane measures times with: a clock that tests can set.

use std::time::Duration;

/// Returns the time since some instant, which never goes back.
pub(super) type Clock = Box<dyn Fn() -> Duration + Send>;

/// The clock of the system.
#[cfg(not(loom))]
pub(super) fn monotonic() -> Clock {
    let start = std::time::Instant::now();
    Box::new(move || start.elapsed())
}

/// Time stands still: an interleaving of threads must be the same each time that loom explores it.
#[cfg(loom)]
pub(super) fn monotonic() -> Clock {
    Box::new(|| Duration::ZERO)
}

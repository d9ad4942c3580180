// SPDX-License-Identifier: MIT OR Apache-2.0

//! Locking without a panic.

use std::sync::{Mutex, MutexGuard};

/// Locks `mutex`, also after a panic while it was held: that was turned into an error then, and the value is still the
/// best there is.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

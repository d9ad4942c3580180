// SPDX-License-Identifier: MIT OR Apache-2.0

//! Mutexes without poisoning.

use std::sync::{Mutex, MutexGuard};

/// Locks `mutex`, even if it is poisoned: the panic was turned into an error at the time, and the value is still the
/// best available.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

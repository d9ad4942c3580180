// SPDX-License-Identifier: MIT OR Apache-2.0

//! Lines logged by the recognizer. All tests share the process's logger and recognize their lines by the paths in
//! them.

use std::sync::{Mutex, MutexGuard, Once};

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Starts collecting lines, once.
pub fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| nemostt::set_runtime_logger(|_, line| lines().push(line.into())));
}

pub fn lines() -> MutexGuard<'static, Vec<String>> {
    LINES.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the recognizer logs. The logger is the process's, so all tests share it and tell their lines by the paths in them.

use std::sync::{Mutex, MutexGuard, Once};

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Begins to collect lines, if that was not done before.
pub fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| nemostt::set_runtime_logger(|_, line| lines().push(line.into())));
}

pub fn lines() -> MutexGuard<'static, Vec<String>> {
    LINES.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

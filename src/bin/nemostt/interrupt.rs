// SPDX-License-Identifier: MIT OR Apache-2.0

//! Ctrl-C for inputs that may never end: the first one ends the input, so that the text up to then is written; the second one
//! ends the program as usual.

use std::{
    io,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

/// Set by the first signal. Static because signals are per process.
static RECEIVED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Makes the first SIGINT (Ctrl-C) or SIGTERM (`kill`, `timeout`) end the input.
///
/// # Errors
/// If a handler cannot be installed.
pub fn catch() -> io::Result<()> {
    for signal in [SIGINT, SIGTERM] {
        // In this order, so that the first signal finds the flag unset.
        flag::register_conditional_default(signal, RECEIVED.clone())?;
        flag::register(signal, RECEIVED.clone())?;
    }
    Ok(())
}

/// Whether the input should end now.
pub fn is_requested() -> bool {
    RECEIVED.load(Ordering::Relaxed)
}

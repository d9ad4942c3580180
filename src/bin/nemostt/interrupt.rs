// SPDX-License-Identifier: MIT OR Apache-2.0

//! Ctrl-C, for inputs that may have no end of their own: the first one ends the input, so that what was said until then
//! is written; the second one ends the program as usual.

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

/// A signal comes to the process as a whole.
static CAME: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From now on, takes the first Ctrl-C, or the first signal of `kill` or `timeout`, as the end of the input.
///
/// # Errors
/// If the system does not allow it.
pub fn catch() -> io::Result<()> {
    for signal in [SIGINT, SIGTERM] {
        // In this order, so that the first signal finds the flag unset.
        flag::register_conditional_default(signal, CAME.clone())?;
        flag::register(signal, CAME.clone())?;
    }
    Ok(())
}

/// Whether the input is to end now.
pub fn came() -> bool {
    CAME.load(Ordering::Relaxed)
}

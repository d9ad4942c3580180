// SPDX-License-Identifier: MIT OR Apache-2.0

//! The one tokio runtime of the process, which serves all connections.

use std::{future::Future, sync::OnceLock};

use tokio::runtime::{Builder, Runtime};

use crate::error::{Error, Result};

/// Enough for thousands of streams: they only move bytes.
const THREADS: usize = 2;

/// Starts it with the first call.
///
/// # Errors
/// [`Error::Setup`] if its threads cannot be started.
pub(crate) fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<std::result::Result<Runtime, String>> = OnceLock::new();
    let start = || {
        let mut builder = Builder::new_multi_thread();
        builder
            .worker_threads(THREADS)
            .thread_name("nemostt-triton")
            .enable_all();
        builder.build().map_err(|error| error.to_string())
    };
    RUNTIME
        .get_or_init(start)
        .as_ref()
        .map_err(|reason| Error::Setup { reason: reason.clone() })
}

/// Waits for `future` on the caller's thread. Unlike `Runtime::block_on`, it does not panic if the caller is in a runtime of its
/// own.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    let _inside = runtime()?.enter();
    Ok(pollster::block_on(future))
}

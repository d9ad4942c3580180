// SPDX-License-Identifier: MIT OR Apache-2.0

//! Checks whether there is enough memory for the next operation.
//!
//! Rust aborts the process when a small allocation fails, and a graph needs thousands of them. ONNX Runtime does the
//! same while it is loaded and started. So before such an operation, the maximum that it may need is allocated at once,
//! where failure is an error, and freed again.

use crate::error::{Error, Result};

/// Maximum for decoding, rewriting or encoding an encoder graph without its weights, which stay in their file: a round
/// number with which none of the memory limits that `tests/recognizer/corrupted/memory.rs` tries aborts the process.
const GRAPH_WORK_BYTES: usize = 32 << 20;

/// Maximum for loading ONNX Runtime's library and its dependencies: twice the 33 MB of address space of release 1.31.
/// The loader can report that they cannot be mapped, but failures in their initializers cannot be reported.
pub(crate) const LIBRARY: usize = 64 << 20;

/// Maximum for starting ONNX Runtime: it registers all of its operators, 15 MB with release 1.31, and an exception
/// meanwhile may abort the process. The rest was checked before and is needed afterwards.
pub(crate) const START: usize = (16 << 20) + GRAPH_WORK_BYTES;

/// Returns an error if less memory is available than graph operations may need; `doing` is for the message.
pub(crate) fn check(doing: impl Into<String>) -> Result<()> {
    check_bytes(GRAPH_WORK_BYTES, doing)
}

/// As [`check`], for `bytes` bytes.
pub(crate) fn check_bytes(bytes: usize, doing: impl Into<String>) -> Result<()> {
    let allocated = Vec::<u8>::new().try_reserve_exact(bytes);
    allocated.map_err(|error| Error::OutOfMemory {
        doing: doing.into(),
        reason: error.to_string(),
    })
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Whether there is memory for the next piece of work.
//!
//! Rust ends the process when a small allocation fails, and a graph is thousands of them. ONNX Runtime does the same while it
//! is loaded and started. So before each piece of work as much as it may take is asked for in one go, where a refusal is an
//! error, and given back.

use crate::error::{Error, Result};

/// What decoding, rewriting or encoding the graph of an encoder may take without the weights, which stay in their file:
/// a round number, with which no limit that `tests/corrupted/memory.rs` tries ends the process.
const GRAPH_WORK_BYTES: usize = 32 << 20;

/// What loading ONNX Runtime's library may take, with those it needs: twice the 33 MB of addresses of release 1.31. The
/// loader can say that they cannot be mapped, but what the libraries set up before anything is called cannot fail.
pub(crate) const LIBRARY: usize = 64 << 20;

/// What starting ONNX Runtime may take: it notes all of its operations, 15 MB with release 1.31, and an exception on the way
/// may end the process. The rest is what was asked for before and is needed after.
pub(crate) const START: usize = (16 << 20) + GRAPH_WORK_BYTES;

/// Refuses where there is not enough memory left to go on; `doing` is for the message.
pub(crate) fn check(doing: impl Into<String>) -> Result<()> {
    check_bytes(GRAPH_WORK_BYTES, doing)
}

/// As [`ask`], where `bytes` are what it may take.
pub(crate) fn check_bytes(bytes: usize, doing: impl Into<String>) -> Result<()> {
    let asked = Vec::<u8>::new().try_reserve_exact(bytes);
    asked.map_err(|error| Error::OutOfMemory {
        doing: doing.into(),
        reason: error.to_string(),
    })
}

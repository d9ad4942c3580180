// SPDX-License-Identifier: MIT OR Apache-2.0

//! Whether there is memory for the next piece of work.
//!
//! Rust ends the process when a small allocation fails, and a graph is thousands of them. So before each piece of work as
//! much as it may take is asked for in one go, where a refusal is an error, and given back.

use crate::error::{Error, Result};

/// What decoding, rewriting or encoding the graph of an encoder may take without the weights, which stay in their file:
/// a round number, with which no limit that `tests/corrupted/memory.rs` tries ends the process.
const HEADROOM: usize = 32 << 20;

/// Refuses where there is not enough memory left to go on; `doing` is for the message.
pub(crate) fn ask(doing: impl Into<String>) -> Result<()> {
    let asked = Vec::<u8>::new().try_reserve_exact(HEADROOM);
    asked.map_err(|error| Error::OutOfMemory {
        doing: doing.into(),
        reason: error.to_string(),
    })
}

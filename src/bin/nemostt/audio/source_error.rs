// SPDX-License-Identifier: MIT OR Apache-2.0

//! Errors of a source that may be opened again.

use thiserror::Error;

/// Why a source gives no samples, or no more.
#[derive(Debug, Error)]
#[error("{message}")]
pub struct SourceError {
    /// The problem and how to fix it.
    pub message: String,
    pub failure: Failure,
}

/// Whether opening the source again may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It may: a connection was lost, or not made.
    Transient,
    /// It does not help now, but may after a restart of the server: there is no such stream, or nothing that can be decoded.
    Permanent,
    /// It does not help: the server wants other credentials.
    Refused,
}

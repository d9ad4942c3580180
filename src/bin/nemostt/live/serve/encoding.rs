// SPDX-License-Identifier: MIT OR Apache-2.0

//! Captions as clients receive them.

use hyper::body::Bytes;
use serde::Serialize;

/// What a client receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Server-sent events.
    Events,
    /// Finals as JSON, one a line; with `partials`, these as well.
    JsonLines { partials: bool },
}

impl Encoding {
    /// What clients ignore, a comment or an empty line: so both sides notice a connection that is dead.
    pub fn keep_alive(self) -> &'static [u8] {
        match self {
            Self::Events => b":\n\n",
            Self::JsonLines { .. } => b"\n",
        }
    }
}

/// A server-sent event with `id`.
pub fn event(id: &str, name: &str, data: &impl Serialize) -> Bytes {
    format!("id: {id}\nevent: {name}\ndata: {}\n\n", json(data)).into()
}

/// A line of JSON.
pub fn line(data: &impl Serialize) -> Bytes {
    (json(data) + "\n").into()
}

/// Line breaks in strings are escaped, so it is one line.
fn json(data: &impl Serialize) -> String {
    // Serializing strings and numbers cannot fail.
    serde_json::to_string(data).unwrap_or_default()
}

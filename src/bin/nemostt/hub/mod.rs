// SPDX-License-Identifier: MIT OR Apache-2.0

//! Published models: the list of known ones (`models`), and their download (`fetch`).
//!
//! | from → to | file |
//! |---|---|
//! | command-line argument → repository, revision, files | `model_ref.rs`, `catalog.rs` |
//! | repository → files of the model | `file_selection.rs` |
//! | file → URL, size and checksum | `api.rs`, `http.rs` |
//! | URL → verified file | `download.rs`, `partial.rs`, `checksum.rs` |
//! | verified file → path | `cache.rs`, `file_paths.rs` |
//!
//! The crate `hf-hub` is not used: its blocking version (0.5) verifies no checksums, does not retry by default, waits five
//! seconds for a lock and has no offline mode; its async version (1.0) does not verify SHA-256 either and adds 225 crates.
//! The layout of the cache and the names of locks and incomplete files are those of the Python package `huggingface_hub`, so
//! both can use one cache concurrently.

mod api;
mod cache;
mod catalog;
mod checksum;
mod download;
mod env;
mod error;
mod fetch;
mod file_paths;
mod file_selection;
mod headers;
mod http;
mod model_ref;
mod models;
mod partial;
mod retry;
mod terminal;

use std::{
    fmt::Display,
    io::{self, Write},
};

pub use fetch::Fetch;
pub use models::Models;

/// Prints a message on standard error. Unlike `eprintln!`, it does not panic if standard error is closed.
fn print_status(message: impl Display) {
    let _ = writeln!(io::stderr(), "nemostt: {message}");
}

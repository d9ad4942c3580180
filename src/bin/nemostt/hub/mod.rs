// SPDX-License-Identifier: MIT OR Apache-2.0

//! Published models: which are known (`models`), and how they get here (`fetch`).
//!
//! | from → to | file |
//! |---|---|
//! | what the user typed → repository, revision, files | `model_ref.rs`, `catalog.rs` |
//! | repository → which of its files | `file_selection.rs` |
//! | file → its address, size and checksum | `api.rs`, `http.rs` |
//! | address → verified file | `download.rs`, `partial.rs`, `checksum.rs` |
//! | verified file → place | `cache.rs`, `file_paths.rs` |
//!
//! Why not the crate `hf-hub`: its blocking line (0.5) checks no checksum, retries nothing unless told to, waits five
//! seconds for a lock and knows no offline mode; its async line (1.0) checks no SHA-256 either and brings 225 crates.
//! Here, the layout of the cache, the names of its locks and of its unfinished files are those of the Python package
//! `huggingface_hub`, so both may work on one cache at once.

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

use std::{
    fmt::Display,
    io::{self, Write},
};

pub use fetch::Fetch;
pub use models::Models;

/// Says something beside the result. To whoever closed standard error it is not worth a failure, as `eprintln` has it.
fn print_status(message: impl Display) {
    let _ = writeln!(io::stderr(), "nemostt: {message}");
}

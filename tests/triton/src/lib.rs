// SPDX-License-Identifier: MIT OR Apache-2.0

//! Runs `tritonserver` for tests: model repositories ([`Repository`]), servers on free ports ([`Server`]), and what they
//! count ([`Counts`]). `tools/triton.sh` installs the server, and sets the variables that this reads:
//!
//! | variable | |
//! |---|---|
//! | `TRITON_ROOT` | a directory with `bin/tritonserver` and `backends/python` |
//! | `TRITON_PYTHONPATH` | where the Python backend finds numpy and onnxruntime |
//! | `TRITON_LIBRARY_PATH` | where it finds libpython |
//! | `NEMOSTT` | the command `nemostt` |
//!
//! A failure panics, because this is for tests only.

mod endpoint;
mod repository;
mod server;

use std::{env, path::PathBuf};

pub use endpoint::{Counts, Endpoint};
pub use repository::Repository;
pub use server::Server;

/// A path from the environment.
fn variable(name: &str) -> PathBuf {
    match env::var_os(name) {
        Some(value) => value.into(),
        None => panic!("{name} is not set: run these tests with tools/triton.sh"),
    }
}

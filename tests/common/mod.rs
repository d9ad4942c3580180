// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the tests of element and command share; the recognizer's tests have the rest.

#![allow(dead_code, unused_imports)] // each test file uses its own part

#[path = "../../crates/nemostt/tests/common/mod.rs"]
mod recognizer;

pub use recognizer::*;

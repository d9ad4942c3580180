// SPDX-License-Identifier: MIT OR Apache-2.0

//! Shared by the tests of element and command. The recognizer's tests have the rest.

#![allow(dead_code, unused_imports)] // each program uses its own part

#[path = "../../crates/nemostt/tests/common/mod.rs"]
mod recognizer;

pub use recognizer::*;

// SPDX-License-Identifier: MIT OR Apache-2.0

//! `nemostt fetch` and `nemostt models` against a hub on loopback. No other address is contacted.

#![allow(clippy::unwrap_used)] // a failed unwrap is how a test fails

#[path = "../common/mod.rs"]
mod common;
mod disk;
mod failures;
mod names;
mod network;
mod places;
mod server;
mod setting;

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tests of the `nemostt` command, run as a process.

#![allow(clippy::unwrap_used)] // a failed unwrap is how a test fails

#[path = "../common/mod.rs"]
mod common;
mod support;

mod bench;
mod check;
mod cli;
mod files;
mod hub;
mod live;
mod metrics;
#[cfg(feature = "triton")]
mod remote;
mod stdin;
mod tracks;
mod transcribe;
mod triton_repository;
mod truncated;
mod urls;

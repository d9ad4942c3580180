// SPDX-License-Identifier: MIT OR Apache-2.0

//! Shared by the tests of the command.

pub mod media;
pub mod process;
pub mod transcribe;

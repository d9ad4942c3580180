// SPDX-License-Identifier: MIT OR Apache-2.0

//! `tools/triton.sh` runs these.

mod config;
mod http;
mod sequences;

// SPDX-License-Identifier: MIT OR Apache-2.0

//! `nemostt fetch` and `nemostt models` against a hub on loopback. No other address is contacted.

mod server;
mod setting;

mod disk;
mod failures;
mod names;
mod network;
mod places;

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Synchronization primitives of the lane: those of std, or those of loom in a build with `--cfg loom`, in which
//! [`model`](super::model) explores the interleavings of threads.

#[cfg(loom)]
pub(super) use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(loom))]
pub(super) use std::sync::{Condvar, Mutex, MutexGuard};

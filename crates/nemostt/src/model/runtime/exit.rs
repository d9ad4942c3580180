// SPDX-License-Identifier: MIT OR Apache-2.0

//! The end of the process while ONNX Runtime computes, loads or starts.
//!
//! `exit` (and a return from `main`) destroys ONNX Runtime's static objects on the thread that calls it, while all others run
//! on. So each thread that calls ONNX Runtime is counted ([`enter`]), and a handler of `exit` lets no other in, ends the loads
//! and waits for those that are inside.
//!
//! Handlers and destructors run in the opposite of the order in which they were registered, so ours must come after ONNX
//! Runtime's:
//! * It is registered after each part of the start ([`register`]): the library is loaded, started, and a first graph has
//!   run. By then all those objects exist but one or two.
//! * Before that, the thread-local objects of a thread help: `exit` destroys those of its caller before all else. A thread
//!   that makes or starts an element or prepares a load ([`Cancellation`](crate::Cancellation)) has one that registers the
//!   handler then and there ([`guard_thread`]): it is the last one, and runs next.
//!
//! Only `exit` on a thread that never did any of that, in the few milliseconds of the start, is not covered.

#![allow(unsafe_code)]

use std::{
    cell::Cell,
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::{Deref, DerefMut},
    sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use super::commits;
use crate::error::{Error, Result};

/// How long `exit` waits. A step takes less than a second, and a load ends within one where it can be cancelled.
const MAX_EXIT_WAIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(1);

/// Threads inside of ONNX Runtime.
static INSIDE: AtomicUsize = AtomicUsize::new(0);
static IS_EXITING: AtomicBool = AtomicBool::new(false);
/// The process that loads the library; 0 before it does. A child that was forked off has none of the threads.
static PROCESS: AtomicU32 = AtomicU32::new(0);
/// Whether the handler is registered behind the objects of the library.
static IS_GUARDED: AtomicBool = AtomicBool::new(false);

/// Guarded threads that have ended.
static THREADS: AtomicUsize = AtomicUsize::new(0);
/// By then all objects are there.
const MAX_GUARDED_THREADS: usize = 1000;

thread_local! {
    /// How often this thread has entered.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    static GUARD: Guard = const { Guard };
}

/// A thread that is inside of ONNX Runtime, as long as this lives.
pub(super) struct RuntimeCall(PhantomData<*const ()>);

/// Begins to call ONNX Runtime.
///
/// # Errors
/// [`Error::Exiting`].
pub(super) fn enter() -> Result<RuntimeCall> {
    try_enter().ok_or(Error::Exiting)
}

fn try_enter() -> Option<RuntimeCall> {
    let depth = DEPTH.get();
    if depth == 0 {
        // Either this sees that the process exits, or who waits sees this.
        INSIDE.fetch_add(1, Ordering::SeqCst);
        if is_exiting() {
            INSIDE.fetch_sub(1, Ordering::SeqCst);
            return None;
        }
    }
    DEPTH.set(depth + 1);
    Some(RuntimeCall(PhantomData))
}

impl Drop for RuntimeCall {
    fn drop(&mut self) {
        let depth = DEPTH.get() - 1;
        DEPTH.set(depth);
        if depth == 0 {
            INSIDE.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Whether the process is about to end: ONNX Runtime must not be called any more.
pub(crate) fn is_exiting() -> bool {
    IS_EXITING.load(Ordering::SeqCst)
}

/// An object of ONNX Runtime, which is left as it is where the process exits before it is dropped.
#[derive(Debug)]
pub(super) struct Owned<T>(ManuallyDrop<T>);

impl<T> Owned<T> {
    pub(super) fn new(value: T) -> Self {
        Self(ManuallyDrop::new(value))
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if let Some(_inside) = try_enter() {
            // SAFETY: it is dropped here alone, once, and not touched after.
            unsafe { ManuallyDrop::drop(&mut self.0) }
        }
    }
}

impl<T> Deref for Owned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Owned<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// What a thread has at its end, or when it calls `exit`.
struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        if PROCESS.load(Ordering::SeqCst) == 0 {
            return;
        }
        // Later graphs make an object or two, too. A process with many short threads need not note the handler for each.
        let is_early = THREADS.fetch_add(1, Ordering::Relaxed) < MAX_GUARDED_THREADS;
        if is_early || is_main() || !IS_GUARDED.load(Ordering::SeqCst) {
            register();
        }
    }
}

/// Makes `exit` on this thread safe at any time: see the [module](self).
pub fn guard_thread() {
    // At the end of the thread it is too late, and there is no need.
    let _ = GUARD.try_with(|_| ());
}

/// Notes that the library is about to be loaded.
pub(super) fn begin() {
    PROCESS.store(std::process::id(), Ordering::SeqCst);
}

/// Notes that the library runs, and `exit` is safe on all threads.
pub(super) fn end() {
    register();
    IS_GUARDED.store(true, Ordering::SeqCst);
}

/// Registers the handler once more, after one of the first graphs.
pub(super) fn register_late() {
    static GRAPHS: AtomicUsize = AtomicUsize::new(0);
    if GRAPHS.fetch_add(1, Ordering::Relaxed) < 32 {
        register();
    }
}

#[cfg(target_os = "linux")]
fn is_main() -> bool {
    // SAFETY: it only asks.
    let thread = unsafe { libc::gettid() };
    u32::try_from(thread).is_ok_and(|thread| thread == std::process::id())
}

/// Lets [`leave`] run before all that is registered by now.
#[cfg(target_os = "linux")]
pub(super) fn register() {
    // SAFETY: the handler unwinds nowhere, and its code stays: GStreamer unloads no plugin, and thread-local objects and
    // ONNX Runtime keep the library, too. Where it cannot be registered, the process exits as without it.
    unsafe { libc::atexit(leave) };
}

#[cfg(not(target_os = "linux"))]
fn is_main() -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
pub(super) fn register() {}

/// Waits until no other thread is inside, and lets none in. It takes no lock, for `exit` may be called anywhere.
#[cfg(target_os = "linux")]
extern "C" fn leave() {
    let is_other = PROCESS.load(Ordering::SeqCst) != std::process::id();
    if is_other || IS_EXITING.swap(true, Ordering::SeqCst) {
        return;
    }
    let own = usize::from(DEPTH.get() > 0);
    let begin = Instant::now();
    while INSIDE.load(Ordering::SeqCst) > own && begin.elapsed() < MAX_EXIT_WAIT {
        commits::try_stop_unwanted();
        std::thread::sleep(POLL);
    }
}

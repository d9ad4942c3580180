// SPDX-License-Identifier: MIT OR Apache-2.0

//! Exiting while ONNX Runtime runs, loads or starts.
//!
//! `exit` (and a return from `main`) destroys ONNX Runtime's static objects on the calling thread while all other
//! threads continue. So threads that call ONNX Runtime are counted ([`enter`]), and an `exit` handler lets no more
//! threads enter, cancels loads, and waits for threads that have entered.
//!
//! Handlers and destructors run in reverse order of registration, so the handler must be registered after ONNX
//! Runtime's objects:
//! * It is registered again after each stage of the start ([`register`]): the library is loaded, started, and a first
//!   graph has run. By then all but one or two of those objects exist.
//! * Before that, thread-local objects help: `exit` destroys those of its caller first. A thread that creates or starts
//!   an element or prepares a load ([`Cancellation`](crate::Cancellation)) has one whose destructor registers the
//!   handler ([`guard_thread`]): it is then the last one, and runs next.
//!
//! Only `exit` on a thread that did none of this, during the few milliseconds of the start, is not covered.

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

/// How long `exit` waits. A step takes less than a second, and a cancelled load ends within one.
const MAX_EXIT_WAIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(1);

/// Threads that are calling ONNX Runtime.
static INSIDE: AtomicUsize = AtomicUsize::new(0);
static IS_EXITING: AtomicBool = AtomicBool::new(false);
/// The process that loads the library; 0 before. A forked child has none of its threads.
static PROCESS: AtomicU32 = AtomicU32::new(0);
/// Whether the handler is registered after the library's objects.
static IS_GUARDED: AtomicBool = AtomicBool::new(false);

/// Guarded threads that have ended.
static THREADS: AtomicUsize = AtomicUsize::new(0);
/// By then all of the library's objects exist.
const MAX_GUARDED_THREADS: usize = 1000;

thread_local! {
    /// Nesting depth of this thread's calls.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    static GUARD: Guard = const { Guard };
}

/// While it exists, the thread may call ONNX Runtime.
pub(crate) struct RuntimeCall(PhantomData<*const ()>);

/// Must be held while calling ONNX Runtime.
///
/// # Errors
/// [`Error::Exiting`].
pub(crate) fn enter() -> Result<RuntimeCall> {
    try_enter().ok_or(Error::Exiting)
}

fn try_enter() -> Option<RuntimeCall> {
    let depth = DEPTH.get();
    if depth == 0 {
        // Either this thread sees that the process is exiting, or the handler sees this thread.
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

/// Whether the process is exiting: ONNX Runtime must not be called any more.
pub(crate) fn is_exiting() -> bool {
    IS_EXITING.load(Ordering::SeqCst)
}

/// An object of ONNX Runtime; it is leaked if the process is exiting when it is dropped.
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
            // SAFETY: dropped only here, once, and not used afterwards.
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

/// A thread-local object whose destructor registers the handler, when the thread ends or calls `exit`.
struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        if PROCESS.load(Ordering::SeqCst) == 0 {
            return;
        }
        // Later graphs create another object or two. In a process with many short-lived threads, not each of them needs
        // to register the handler.
        let is_early = THREADS.fetch_add(1, Ordering::Relaxed) < MAX_GUARDED_THREADS;
        if is_early || is_main() || !IS_GUARDED.load(Ordering::SeqCst) {
            register();
        }
    }
}

/// Makes `exit` on this thread safe at any time: see the [module](self).
pub fn guard_thread() {
    // Fails only while the thread is ending, where it is not needed.
    let _ = GUARD.try_with(|_| ());
}

/// The library is about to be loaded.
pub(super) fn begin() {
    PROCESS.store(std::process::id(), Ordering::SeqCst);
}

/// The library is running, and `exit` is safe on all threads.
pub(super) fn end() {
    register();
    IS_GUARDED.store(true, Ordering::SeqCst);
}

/// Registers the handler again, after each of the first graphs.
pub(super) fn register_late() {
    static GRAPHS: AtomicUsize = AtomicUsize::new(0);
    if GRAPHS.fetch_add(1, Ordering::Relaxed) < 32 {
        register();
    }
}

#[cfg(target_os = "linux")]
fn is_main() -> bool {
    // SAFETY: it only returns the thread id.
    let thread = unsafe { libc::gettid() };
    u32::try_from(thread).is_ok_and(|thread| thread == std::process::id())
}

/// Registers [`leave`], so that it runs before everything that is registered by now.
#[cfg(target_os = "linux")]
pub(super) fn register() {
    // SAFETY: the handler does not unwind, and its code stays mapped: GStreamer does not unload plugins, and
    // thread-local objects and ONNX Runtime keep the library loaded, too. If registration fails, the process exits as
    // without it.
    unsafe { libc::atexit(leave) };
}

#[cfg(not(target_os = "linux"))]
fn is_main() -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
pub(super) fn register() {}

/// Lets no more threads enter, and waits until no other thread calls ONNX Runtime. Takes no lock, because `exit` may be
/// called anywhere.
#[cfg(target_os = "linux")]
extern "C" fn leave() {
    let is_other_process = PROCESS.load(Ordering::SeqCst) != std::process::id();
    if is_other_process || IS_EXITING.swap(true, Ordering::SeqCst) {
        return;
    }
    let own = usize::from(DEPTH.get() > 0);
    let start = Instant::now();
    while INSIDE.load(Ordering::SeqCst) > own && start.elapsed() < MAX_EXIT_WAIT {
        commits::try_stop_unwanted();
        std::thread::sleep(POLL);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Disables ONNX Runtime's telemetry.
//!
//! Since release 1.31, it writes a device identifier and an event database below `~/.cache/Microsoft` and resolves a
//! host name when it starts, before its API can disable this: only the environment variable [`VARIABLE`] takes effect
//! in time. It is set just before the library is loaded, and stays set, so that child processes send nothing either. If
//! it is set already, its value is kept. If another part of the process loaded the library before, it has no effect.

#![allow(unsafe_code)]

const VARIABLE: &str = "ORT_DISABLE_TELEMETRY";

/// Sets the variable unless it is set.
pub(super) fn disable() {
    if std::env::var_os(VARIABLE).is_none() {
        set();
    }
}

/// Adds the variable without `setenv`, which frees the environment block while unknown other threads may be reading it
/// (in glibc before 2.41).
///
/// The block is copied, and a single store replaces it by the copy, which is never freed: readers of the old one find
/// everything that was in it. If another thread calls `setenv` at this very moment, its variable may be lost; C allows
/// `setenv` only in single-threaded programs, and Rust declares it unsafe.
#[cfg(unix)]
fn set() {
    use std::{
        ffi::c_char,
        ptr::null_mut,
        sync::atomic::{AtomicPtr, Ordering},
    };

    /// Keeps the block reachable for leak checkers, because a later `setenv` may replace it. Nothing reads this, and
    /// without `used` the store would be optimized away.
    #[used]
    static BLOCK: AtomicPtr<*mut c_char> = AtomicPtr::new(null_mut());

    let entry = c"ORT_DISABLE_TELEMETRY=1".as_ptr().cast_mut();
    // SAFETY: `environ` is aligned and lives as long as the process; readers in C see a pointer store as a whole.
    let current: &AtomicPtr<*mut c_char> = unsafe { AtomicPtr::from_ptr(environ_ptr()) };
    let mut old = current.load(Ordering::Acquire);
    loop {
        let mut list = Vec::new();
        let mut at = old;
        // SAFETY: an environment block, if there is one, ends with a null pointer.
        while let Some(entry) = unsafe { at.as_ref() }.filter(|entry| !entry.is_null()) {
            list.push(*entry);
            at = at.wrapping_add(1);
        }
        list.extend([entry, null_mut()]);
        match current.compare_exchange(old, list.as_mut_ptr(), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                BLOCK.store(list.leak().as_mut_ptr(), Ordering::Release);
                return;
            }
            Err(now) => old = now,
        }
    }
}

#[cfg(all(unix, not(target_vendor = "apple")))]
fn environ_ptr() -> *mut *mut *mut std::ffi::c_char {
    unsafe extern "C" {
        static mut environ: *mut *mut std::ffi::c_char;
    }
    &raw mut environ
}

#[cfg(target_vendor = "apple")]
fn environ_ptr() -> *mut *mut *mut std::ffi::c_char {
    unsafe extern "C" {
        safe fn _NSGetEnviron() -> *mut *mut *mut std::ffi::c_char;
    }
    _NSGetEnviron()
}

#[cfg(windows)]
fn set() {
    // SAFETY: thread-safe on Windows.
    unsafe { std::env::set_var(VARIABLE, "1") };
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn variable_is_added_and_others_are_unchanged() {
        let sorted = || {
            let mut all: Vec<_> = std::env::vars_os().filter(|(name, _)| name != VARIABLE).collect();
            all.sort();
            all
        };
        let before = sorted();
        disable();
        assert_eq!(std::env::var(VARIABLE).as_deref(), Ok("1"));
        assert_eq!(sorted(), before);
    }
}

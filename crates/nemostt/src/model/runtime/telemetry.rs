// SPDX-License-Identifier: MIT OR Apache-2.0

//! ONNX Runtime sends nothing home.
//!
//! Its releases since 1.31 write an identifier of the device and a database of events below `~/.cache/Microsoft` and look up a
//! host when they start, before they can be told not to: only the environment variable [`VARIABLE`] comes in time. It is
//! set just before the library is loaded, and stays: whatever is started then sends nothing, either. One that is set already
//! stays as it is; and where another part of the process has loaded the library before, that has decided.

#![allow(unsafe_code)]

const VARIABLE: &str = "ORT_DISABLE_TELEMETRY";

/// Sets the variable.
pub(super) fn disable() {
    if std::env::var_os(VARIABLE).is_none() {
        set();
    }
}

/// Adds the variable without `setenv`, which frees the list of variables while other threads, of whom nothing is known here,
/// may be reading it (in glibc before 2.41).
///
/// The list that is there is copied, and the copy, which is never freed, takes its place in one store: who reads the old one
/// finds all that was in it. Who sets another variable at this very moment with `setenv` may lose that one; the C library
/// allows that on no other thread than the only one, and Rust calls it unsafe.
#[cfg(unix)]
fn set() {
    use std::{
        ffi::c_char,
        ptr::null_mut,
        sync::atomic::{AtomicPtr, Ordering},
    };

    /// The list, for leak checkers: `setenv` in another part of the process may put its own in its place. Nothing reads this, and
    /// without `used` nothing would write it.
    #[used]
    static KEPT: AtomicPtr<*mut c_char> = AtomicPtr::new(null_mut());

    let entry = c"ORT_DISABLE_TELEMETRY=1".as_ptr().cast_mut();
    // SAFETY: it is where the C library keeps the list, aligned, for as long as the process runs; a store of a pointer is seen
    // whole by who reads it in C.
    let current: &AtomicPtr<*mut c_char> = unsafe { AtomicPtr::from_ptr(place()) };
    let mut old = current.load(Ordering::Acquire);
    loop {
        let mut list = Vec::new();
        let mut at = old;
        // SAFETY: a list, if there is one, ends with null.
        while let Some(entry) = unsafe { at.as_ref() }.filter(|entry| !entry.is_null()) {
            list.push(*entry);
            at = at.wrapping_add(1);
        }
        list.extend([entry, null_mut()]);
        match current.compare_exchange(old, list.as_mut_ptr(), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                KEPT.store(list.leak().as_mut_ptr(), Ordering::Release);
                return;
            }
            Err(now) => old = now,
        }
    }
}

#[cfg(all(unix, not(target_vendor = "apple")))]
fn place() -> *mut *mut *mut std::ffi::c_char {
    unsafe extern "C" {
        static mut environ: *mut *mut std::ffi::c_char;
    }
    &raw mut environ
}

#[cfg(target_vendor = "apple")]
fn place() -> *mut *mut *mut std::ffi::c_char {
    unsafe extern "C" {
        safe fn _NSGetEnviron() -> *mut *mut *mut std::ffi::c_char;
    }
    _NSGetEnviron()
}

#[cfg(windows)]
fn set() {
    // SAFETY: on Windows that is safe on any thread.
    unsafe { std::env::set_var(VARIABLE, "1") };
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn the_variable_is_added_and_all_others_stay() {
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

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Cancelling ONNX Runtime while it loads a graph.
//!
//! ONNX Runtime supports this since release 1.22, and `ort` only in builds that require that release. So the function
//! is looked up in that release's API table, if the library has it; otherwise a load runs to its end.

#![allow(unsafe_code)]

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, OnceLock, TryLockError},
};

use ort::{
    AsPointer,
    session::{Session, builder::SessionBuilder},
    sys::{OrtSessionOptions, OrtStatusPtr},
};

use super::exit::is_exiting;
use crate::{model::Cancellation, sync::lock};

/// `SessionOptionsSetLoadCancellationFlag`.
type SetFlag = unsafe extern "system" fn(*mut OrtSessionOptions, bool) -> OrtStatusPtr;

/// `None` if the library does not have it.
static SET_FLAG: OnceLock<Option<SetFlag>> = OnceLock::new();

static COMMITS: Mutex<Vec<Commit>> = Mutex::new(Vec::new());

/// A graph that is being loaded.
struct Commit {
    options: *mut OrtSessionOptions,
    cancellation: Cancellation,
}

// SAFETY: ONNX Runtime allows setting the flag of these options on any thread, and nothing else is done with them.
unsafe impl Send for Commit {}

impl Commit {
    fn stop_if_unwanted(&self) {
        if (is_exiting() || self.cancellation.is_cancelled())
            && let Some(Some(set)) = SET_FLAG.get()
        {
            // SAFETY: the options live as long as this entry is in the list.
            let status = unsafe { set(self.options, true) };
            // SAFETY: the status was returned by that call.
            let _ = unsafe { super::kernel_io::check(status) };
        }
    }
}

/// Loads `model`; ends early when it is cancelled.
pub(super) fn load(builder: &mut SessionBuilder, model: &[u8], cancellation: &Cancellation) -> ort::Result<Session> {
    let _guard = LoadGuard::begin(builder.ptr_mut(), cancellation);
    builder.commit_from_memory(model)
}

/// Registers a load while it exists. The options must outlive it, and it must be dropped: only [`load`] creates one.
struct LoadGuard(*mut OrtSessionOptions);

impl LoadGuard {
    fn begin(options: *mut OrtSessionOptions, cancellation: &Cancellation) -> Self {
        let mut commits = lock(&COMMITS);
        commits.push(Commit {
            options,
            cancellation: cancellation.clone(),
        });
        // It may have been cancelled before it was added.
        stop(&commits);
        Self(options)
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        lock(&COMMITS).retain(|commit| commit.options != self.0);
    }
}

/// Ends loads that were cancelled.
pub(crate) fn stop_unwanted() {
    stop(&lock(&COMMITS));
}

/// As [`stop_unwanted`], if the lock is free.
pub(super) fn try_stop_unwanted() {
    match COMMITS.try_lock() {
        Ok(commits) => stop(&commits),
        Err(TryLockError::Poisoned(poisoned)) => stop(&poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => (),
    }
}

fn stop(commits: &MutexGuard<'_, Vec<Commit>>) {
    commits.iter().for_each(Commit::stop_if_unwanted);
}

/// Looks up the function in the library at `path`, which is loaded.
pub(super) fn find(path: &Path) {
    SET_FLAG.get_or_init(|| look_up(path));
}

#[cfg(not(target_os = "linux"))]
fn look_up(_: &Path) -> Option<SetFlag> {
    None
}

#[cfg(target_os = "linux")]
fn look_up(path: &Path) -> Option<SetFlag> {
    use std::{
        ffi::{CStr, CString, c_void},
        os::unix::ffi::OsStrExt,
    };

    use ort::sys::{OrtApi, OrtApiBase};

    /// The API version that introduced the function, and its index in the table, which is only ever extended.
    const RELEASE: u32 = 22;
    const INDEX: usize = 293;
    const { assert!(size_of::<OrtApi>() / size_of::<*const c_void>() <= INDEX) };

    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: with `RTLD_NOLOAD` nothing is loaded, and a loaded library is not unloaded.
    let base = unsafe {
        let library = libc::dlopen(path.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
        if library.is_null() {
            return None;
        }
        libc::dlsym(library, c"OrtGetApiBase".as_ptr())
    };
    if base.is_null() {
        return None;
    }
    // SAFETY: the type is the same in every release, and the table is static.
    let base = unsafe {
        let base: unsafe extern "system" fn() -> *const OrtApiBase = std::mem::transmute(base);
        base().as_ref()?
    };
    // SAFETY: a static string.
    let version = unsafe { CStr::from_ptr((base.GetVersionString)()) }.to_str().ok()?;
    let release: u32 = version.split('.').nth(1)?.parse().ok()?;
    if !version.starts_with("1.") || release < RELEASE {
        return None;
    }
    // SAFETY: the library has the API of that release, with all functions of its table.
    unsafe {
        let table: *const Option<SetFlag> = (base.GetApi)(RELEASE).cast();
        match table.is_null() {
            true => None,
            false => *table.add(INDEX),
        }
    }
}

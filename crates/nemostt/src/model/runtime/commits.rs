// SPDX-License-Identifier: MIT OR Apache-2.0

//! Graphs that ONNX Runtime is loading, and ending that before it is done.
//!
//! ONNX Runtime can since release 1.22, and `ort` only where nothing older will do. So the function is taken from the table of
//! that release's interface, where the library has it; else a load ends when it is done.

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

/// `None`: the library does not have it.
static SET_FLAG: OnceLock<Option<SetFlag>> = OnceLock::new();

static COMMITS: Mutex<Vec<Commit>> = Mutex::new(Vec::new());

/// One graph that is being loaded.
struct Commit {
    options: *mut OrtSessionOptions,
    cancellation: Cancellation,
}

// SAFETY: ONNX Runtime lets the flag of these options be set on any thread, and nothing else is done with them.
unsafe impl Send for Commit {}

impl Commit {
    fn stop_if_unwanted(&self) {
        if (is_exiting() || self.cancellation.is_cancelled())
            && let Some(Some(set)) = SET_FLAG.get()
        {
            // SAFETY: the options live as long as this is in the list.
            let status = unsafe { set(self.options, true) };
            // SAFETY: it comes from there.
            let _ = unsafe { super::kernel_io::check(status) };
        }
    }
}

/// Loads `model`, which ends early when it is cancelled.
pub(super) fn load(builder: &mut SessionBuilder, model: &[u8], cancellation: &Cancellation) -> ort::Result<Session> {
    let _under_way = LoadGuard::begin(builder.ptr_mut(), cancellation);
    builder.commit_from_memory(model)
}

/// A graph is being loaded with these options, which must live, as long as this lives. Nobody but [`load`] may have one: it
/// must be dropped.
struct LoadGuard(*mut OrtSessionOptions);

impl LoadGuard {
    fn begin(options: *mut OrtSessionOptions, cancellation: &Cancellation) -> Self {
        let mut commits = lock(&COMMITS);
        commits.push(Commit {
            options,
            cancellation: cancellation.clone(),
        });
        // It may have been cancelled before it was in the list.
        stop(&commits);
        Self(options)
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        lock(&COMMITS).retain(|commit| commit.options != self.0);
    }
}

/// Ends the loads that were cancelled.
pub(crate) fn stop_unwanted() {
    stop(&lock(&COMMITS));
}

/// As [`stop_unwanted`], if that can be done without waiting.
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

/// Looks for the function in the library at `path`, which is loaded.
pub(super) fn find(path: &Path) {
    SET_FLAG.get_or_init(|| found(path));
}

#[cfg(not(target_os = "linux"))]
fn found(_: &Path) -> Option<SetFlag> {
    None
}

#[cfg(target_os = "linux")]
fn found(path: &Path) -> Option<SetFlag> {
    use std::{
        ffi::{CStr, CString, c_void},
        os::unix::ffi::OsStrExt,
    };

    use ort::sys::{OrtApi, OrtApiBase};

    /// The release whose interface has it, and where: in a table of functions that only grows.
    const RELEASE: u32 = 22;
    const INDEX: usize = 293;
    const { assert!(size_of::<OrtApi>() / size_of::<*const c_void>() <= INDEX) };

    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: nothing is loaded, and what is loaded already is not unloaded.
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
    // SAFETY: in every release it has this type, and gives a table that stays.
    let base = unsafe {
        let base: unsafe extern "system" fn() -> *const OrtApiBase = std::mem::transmute(base);
        base().as_ref()?
    };
    // SAFETY: a text that stays.
    let version = unsafe { CStr::from_ptr((base.GetVersionString)()) }.to_str().ok()?;
    let release: u32 = version.split('.').nth(1)?.parse().ok()?;
    if !version.starts_with("1.") || release < RELEASE {
        return None;
    }
    // SAFETY: the library has the interface of that release, and all functions of its table.
    unsafe {
        let table: *const Option<SetFlag> = (base.GetApi)(RELEASE).cast();
        match table.is_null() {
            true => None,
            false => *table.add(INDEX),
        }
    }
}

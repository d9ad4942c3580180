// SPDX-License-Identifier: MIT OR Apache-2.0

//! Faults that tests inject into the runs of chosen streams. Other builds compile none of it into a run.

use std::cell::Cell;

use super::ProgramError;

/// Whether faults can be injected.
const IS_ENABLED: bool = cfg!(any(test, feature = "fuzzing"));

thread_local! {
    /// That of the streams whose inputs this thread writes.
    static FAULT: Cell<Option<Fault>> = const { Cell::new(None) };
}

/// What happens in each run of a stream, alone and with others.
#[cfg_attr(not(any(test, feature = "fuzzing")), allow(dead_code, unreachable_pub))] // nothing creates one
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is rejected before anything is computed.
    Error,
    /// The operation panics that a task belongs to, at its end. Tasks are numbered through all phases; a number beyond the
    /// last is taken modulo their number.
    Panic {
        /// Number of the task.
        task: usize,
    },
}

/// Calls `call`. Streams whose inputs it writes on this thread have this fault, until they are written again.
#[cfg(any(test, feature = "fuzzing"))]
pub fn with_fault<T>(fault: Fault, call: impl FnOnce() -> T) -> T {
    /// Also after a panic.
    struct Restore(Option<Fault>);
    impl Drop for Restore {
        fn drop(&mut self) {
            FAULT.set(self.0);
        }
    }
    let _restore = Restore(FAULT.replace(Some(fault)));
    call()
}

/// The fault of a stream, or of a run.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Injected(Option<Fault>);

impl Injected {
    /// That of what this thread writes.
    pub(super) fn here() -> Self {
        match IS_ENABLED {
            true => Self(FAULT.get()),
            false => Self(None),
        }
    }

    /// That of a batch: of the first stream that has one.
    pub(super) fn of_batch(streams: impl IntoIterator<Item = Self>) -> Self {
        match IS_ENABLED {
            true => Self(streams.into_iter().find_map(|stream| stream.0)),
            false => Self(None),
        }
    }

    /// Called before a run.
    pub(super) fn check_run(self) -> Result<(), ProgramError> {
        match self.0 {
            Some(Fault::Error) if IS_ENABLED => Err(ProgramError::ShapeMismatch),
            _ => Ok(()),
        }
    }

    /// Called after a task.
    pub(super) fn check_task(self, task_counts: &[usize], phase: usize, task: usize) {
        if !IS_ENABLED {
            return;
        }
        if let Some(Fault::Panic { task: faulty }) = self.0 {
            let before: usize = task_counts[..phase].iter().sum();
            let all: usize = task_counts.iter().sum();
            if before + task == faulty % all {
                // Without the message of a panic, of which a test would write thousands.
                std::panic::resume_unwind(Box::new("injected"));
            }
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! How often, and after how long, something that failed is tried again.

use std::{thread, time::Duration};

use super::error::Error;

/// Tries without any progress.
pub const MAX_TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause, also where the server asks for a longer one: someone waits in front of a terminal.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Why one try failed.
#[derive(Debug)]
pub enum Failure {
    /// Another one may help, after the pause that the server asked for.
    Transient { error: Error, pause: Option<Duration> },
    /// None will.
    Permanent(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Permanent(error)
    }
}

/// Counts the tries.
#[derive(Debug, Default)]
pub struct RetryPolicy {
    failed: u32,
}

impl RetryPolicy {
    /// There was progress: counts from the start.
    pub fn reset(&mut self) {
        self.failed = 0;
    }

    /// Waits before the next try; gives the error back when there shall be none.
    pub fn after(&mut self, failure: Failure) -> Result<(), Error> {
        let (error, pause) = match failure {
            Failure::Permanent(error) => return Err(error),
            Failure::Transient { error, pause } => (error, pause),
        };
        self.failed += 1;
        if self.failed >= MAX_TRIES {
            return Err(error);
        }
        let own = FIRST_PAUSE * 2_u32.pow(self.failed - 1);
        // A fuzzer's server is no other after a pause.
        if cfg!(not(fuzzing)) {
            thread::sleep(pause.unwrap_or(own).min(LONGEST_PAUSE));
        }
        Ok(())
    }
}

/// Tries something that has no lasting progress.
pub fn retry<T>(mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, Error> {
    let mut policy = RetryPolicy::default();
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(failure) => policy.after(failure)?,
        }
    }
}

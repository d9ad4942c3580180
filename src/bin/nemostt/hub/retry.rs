// SPDX-License-Identifier: MIT OR Apache-2.0

//! Retries: how many, and with which delays.

use std::{thread, time::Duration};

use super::error::Error;

/// Attempts without progress.
pub const MAX_TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause, even if the server asks for a longer one: a user is waiting.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Why an attempt failed.
#[derive(Debug)]
pub enum Failure {
    /// Worth a retry, after the pause that the server asked for.
    Transient { error: Error, pause: Option<Duration> },
    /// Not worth a retry.
    Permanent(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Permanent(error)
    }
}

/// Counts attempts.
#[derive(Debug, Default)]
pub struct RetryPolicy {
    failed: u32,
}

impl RetryPolicy {
    /// Restarts the count after progress.
    pub fn reset(&mut self) {
        self.failed = 0;
    }

    /// Waits before the next attempt, or returns the error if there should be none.
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
        // A fuzzer's server does not change after a pause.
        if cfg!(not(fuzzing)) {
            thread::sleep(pause.unwrap_or(own).min(LONGEST_PAUSE));
        }
        Ok(())
    }
}

/// Retries an operation that makes no lasting progress.
pub fn retry<T>(mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, Error> {
    let mut policy = RetryPolicy::default();
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(failure) => policy.after(failure)?,
        }
    }
}

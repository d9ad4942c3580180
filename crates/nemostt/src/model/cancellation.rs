// SPDX-License-Identifier: MIT OR Apache-2.0

//! Cancelling a load.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::runtime;
use crate::error::{Error, Result};

/// Cancels the loads whose [`Options`](super::Options) contain it or a clone of it, from any thread.
///
/// ```no_run
/// # fn main() -> nemostt::Result<()> {
/// use nemostt::{Cancellation, Options, Recognizer};
///
/// let cancellation = Cancellation::default();
/// let options = Options {
///     cancellation: cancellation.clone(),
///     ..Default::default()
/// };
/// let loading = std::thread::spawn(move || Recognizer::load("model-directory", &options));
/// cancellation.cancel();
/// # let _ = loading.join();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Cancellation(Arc<AtomicBool>);

impl Default for Cancellation {
    fn default() -> Self {
        // The thread that prepares a load may call `exit` while the load runs on another thread.
        runtime::guard_thread();
        Self(Arc::default())
    }
}

/// It does not affect how a model is loaded, so all are equal.
impl PartialEq for Cancellation {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Cancellation {
    /// Makes these loads fail with [`Error::Cancelled`] soon: between two steps of loading, or when ONNX Runtime (1.22
    /// and later) checks for it. Models that are already loaded are not affected.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
        runtime::stop_unwanted_loads();
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Returns an error once the load is cancelled.
    ///
    /// # Errors
    /// [`Error::Cancelled`]; [`Error::Exiting`] if the process is exiting.
    pub fn check(&self) -> Result<()> {
        if runtime::is_exiting() {
            return Err(Error::Exiting);
        }
        match self.is_cancelled() {
            true => Err(Error::Cancelled),
            false => Ok(()),
        }
    }
}

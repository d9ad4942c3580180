// SPDX-License-Identifier: MIT OR Apache-2.0

//! Ending a load before it is done.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::runtime;
use crate::error::{Error, Result};

/// Ends the loads whose [`Options`](super::Options) hold it or a clone of it, from any thread.
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
        // Whoever prepares a load may exit while it is under way on another thread.
        runtime::guard_thread();
        Self(Arc::default())
    }
}

/// It says nothing about how a model is loaded: all are equal.
impl PartialEq for Cancellation {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Cancellation {
    /// Ends them with [`Error::Cancelled`], soon: between two pieces of our own work, or where ONNX Runtime (1.22 and later)
    /// looks for it. What is loaded already stays.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
        runtime::stop_unwanted_loads();
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Fails once the load is cancelled.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
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

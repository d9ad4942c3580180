// SPDX-License-Identifier: MIT OR Apache-2.0

//! Ending blocked calls from another thread.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::runtime;

/// Ends calls that wait for a server, from any thread: while it is set, they fail at once with
/// [`Error::Interrupted`](crate::Error::Interrupted). Clones are the same one.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<watch::Sender<bool>>);

impl Default for Interrupt {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

/// It does not affect results, so all are equal.
impl PartialEq for Interrupt {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Interrupt {
    /// Ends calls that wait, and all further ones until it is [cleared](Self::clear).
    pub fn set(&self) {
        self.0.send_replace(true);
    }

    /// Allows calls again.
    pub fn clear(&self) {
        self.0.send_replace(false);
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for `time`. Returns whether it was interrupted.
    pub fn wait(&self, time: Duration) -> bool {
        let waited = runtime::block_on(async { tokio::time::timeout(time, self.until_set()).await.is_ok() });
        match waited {
            Ok(is_set) => is_set,
            // There is no runtime.
            Err(_) => {
                std::thread::sleep(time);
                self.is_set()
            }
        }
    }

    /// Returns once it is set.
    pub(crate) async fn until_set(&self) {
        // Fails only if there is no sender, but this one is there.
        let _ = self.0.subscribe().wait_for(|&is_set| is_set).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn wait_ends_at_once_when_another_thread_interrupts() {
        let interrupt = Interrupt::default();
        assert!(!interrupt.wait(Duration::from_millis(1)));
        let waits = interrupt.clone();
        let start = Instant::now();
        let thread = std::thread::spawn(move || waits.wait(Duration::from_secs(600)));
        interrupt.set();
        assert!(matches!(thread.join(), Ok(true)));
        assert!(start.elapsed() < Duration::from_secs(300));
        assert!(interrupt.wait(Duration::from_secs(600)));
        interrupt.clear();
        assert!(!interrupt.wait(Duration::ZERO));
    }
}

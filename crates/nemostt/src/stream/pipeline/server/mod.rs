// SPDX-License-Identifier: MIT OR Apache-2.0

//! Streams whose encoder is on a server: what they do when it fails, and when it is back.
//!
//! | what happens | what the stream does |
//! |---|---|
//! | the server has lost its state | starts a new sequence there at once |
//! | the server cannot be reached, is busy, or does not answer in time | starts one on the next server at once |
//! | no server can be used, and there is a fallback | continues on the CPU, and looks for a server after a while |
//! | no server can be used, and there is none | waits, and tries again, less and less often |
//!
//! Wherever it goes on, its last windows are encoded again before the current one, which restores the encoder's context as in
//! [`history`](super::super::history). Tokens and words are kept, with the decoder's state.

mod link;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Instant};

use nemostt_triton::Interrupt;

pub(in crate::stream) use self::link::ServerLink;
pub use self::link::{RemoteChange, RemoteState};
use super::{StreamPipeline, encode_history};
use crate::{
    error::{Error, Result},
    model::RemoteEncoder,
};

impl StreamPipeline {
    /// What ends waiting for a server.
    pub(in crate::stream) fn set_interrupt(&mut self, interrupt: &Interrupt) {
        self.link.interrupt = interrupt.clone();
        self.encoder.set_interrupt(interrupt);
    }

    /// Encodes the current window, and returns the number of its encoder frames; `None` if it waits for a server.
    pub(super) fn encode_on_server(&mut self) -> Result<Option<usize>> {
        if self.link.interrupt.is_set() {
            return Err(Error::Interrupted);
        }
        if !self.model.encoder.is_remote() && !self.return_to_server()? {
            return self.encode().map(Some);
        }
        if self.link.is_waiting() && !self.server_is_back()? {
            return Ok(None);
        }
        match self.try_servers() {
            Ok(frames) => {
                let server = self.encoder.server().unwrap_or_default();
                self.link.connected(server, self.history.len(), Instant::now());
                Ok(Some(frames))
            }
            Err(error) if error.is_of_remote() => self.give_up(error),
            Err(error) => Err(error),
        }
    }

    /// Encodes the current window on a server. If that fails, tries at once what may succeed at once.
    fn try_servers(&mut self) -> Result<usize> {
        let mut result = self.encode_with_context();
        let Some(servers) = self.remote().map(RemoteEncoder::servers) else {
            return result;
        };
        // A stream that waits tries one server at a time.
        let attempts = if self.link.is_waiting() { 0 } else { servers };
        let mut slow = 0;
        for _ in 0..attempts {
            match &result {
                Err(error) if error.is_of_remote() => {
                    slow += usize::from(error.is_slow_remote());
                    // The next one would be as slow again.
                    if slow == servers {
                        break;
                    }
                    if let Some(remote) = self.remote() {
                        remote.log_failure(error);
                    }
                    self.link.lost(error);
                }
                _ => break,
            }
            result = self.encode_with_context();
        }
        result
    }

    /// Encodes the current window; before it, if the server knows nothing of the stream, the windows that restore its context.
    fn encode_with_context(&mut self) -> Result<usize> {
        if self.encoder.has_no_context() {
            let prompt = self.encoder.prompt();
            let restored = encode_history(&self.model, (&mut self.encoder, &mut self.decoder), &self.history);
            self.encoder.set_prompt(prompt);
            if let Err(error) = restored {
                // Not with a part of it.
                self.encoder.reset();
                return Err(error);
            }
        }
        self.encode()
    }

    /// No server can be used: continues on the CPU, or waits.
    fn give_up(&mut self, error: Error) -> Result<Option<usize>> {
        let Some(fallback) = &self.original.fallback else {
            if self.remote().is_some_and(RemoteEncoder::needs_change) {
                return Err(error);
            }
            self.link.wait_after(&error, Instant::now());
            return Ok(None);
        };
        let fallback = fallback.load(&error)?;
        self.move_to(fallback.model)?;
        self.link.left(&error, Instant::now());
        self.encode().map(Some)
    }

    /// Whether a server can be used that a window waits for.
    ///
    /// # Errors
    /// That of the last server, if none of them can be used before something changes.
    fn server_is_back(&mut self) -> Result<bool> {
        let Some(remote) = self.original.encoder.on_server() else {
            return Ok(false);
        };
        match self.link.is_back(remote, Instant::now()) {
            Err(error) if remote.needs_change() => Err(error),
            result => Ok(matches!(result, Ok(true))),
        }
    }

    /// Goes back to the server if one has the model again. Returns whether the stream is there.
    fn return_to_server(&mut self) -> Result<bool> {
        let original = self.original.clone();
        let Some(remote) = original.encoder.on_server() else {
            return Ok(false);
        };
        if !matches!(self.link.is_back(remote, Instant::now()), Ok(true)) {
            return Ok(false);
        }
        match self.move_to(Arc::clone(&original)) {
            Ok(()) => Ok(true),
            Err(error) if error.is_of_remote() => {
                remote.log_failure(&error);
                self.link.postpone(Instant::now());
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn remote(&self) -> Option<&RemoteEncoder> {
        self.original.encoder.on_server()
    }
}

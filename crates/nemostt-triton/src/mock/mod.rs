// SPDX-License-Identifier: MIT OR Apache-2.0

//! A server in the process, with Triton's answers and Triton's faults: for tests.
//!
//! A [`Model`] computes; the rest is what Triton's sequence scheduler does: it requires START, forgets sequences that are reaped,
//! and lets new ones wait, silently, if there are too many.

mod rpc;
mod serve;
mod state;

use std::{sync::Arc, time::Duration};

use crate::{client::ModelInfo, error::Result, runtime::runtime, tensor::Tensor};
use serve::Listening;
use state::{Shared, lock};

/// What is served. It keeps a state for each sequence.
pub trait Model: Send + 'static {
    /// Runs the request of sequence `id`, which begins with `is_start`.
    ///
    /// # Errors
    /// The message for the client.
    fn run(&mut self, id: i64, is_start: bool, inputs: &[Tensor]) -> std::result::Result<Vec<Tensor>, String>;

    /// The sequence has ended, or its state was lost.
    fn end(&mut self, id: i64);
}

/// A request that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Id of its sequence.
    pub id: i64,
    /// Whether it had the flag START.
    pub is_start: bool,
    /// Whether it had the flag END.
    pub is_end: bool,
    /// What it may wait, in microseconds.
    pub timeout: i64,
}

/// What is wrong with the server.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Faults {
    /// Requests are received and never answered.
    pub hangs: bool,
    /// Each answer is late by this.
    pub delay: Duration,
    /// Sequences that there may be at the same time; others wait.
    pub max_sequences: Option<usize>,
    /// The model is not loaded.
    pub is_not_ready: bool,
    /// All outputs of floating-point numbers have this value.
    pub float: Option<f32>,
    /// All outputs of integers have this value.
    pub integer: Option<i64>,
    /// Errors of requests come as a text in the stream, as from servers before `triton_grpc_error`.
    pub errors_as_text: bool,
}

/// See the [module](self).
pub struct Server {
    shared: Arc<Shared>,
    listening: Option<Listening>,
    port: u16,
}

impl Server {
    /// Serves `model` as `name` on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// Those of the network.
    pub fn start(name: &str, info: ModelInfo, model: impl Model) -> Result<Self> {
        let shared = Arc::new(Shared::new(name, info, Box::new(model)));
        let listening = runtime()?.block_on(Listening::start(0, shared.clone()))?;
        let port = listening.port;
        Ok(Self {
            shared,
            listening: Some(listening),
            port,
        })
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends the server at once, as SIGKILL does: connections break, states are lost.
    pub fn kill(&mut self) {
        self.listening = None;
        self.forget_sequences();
    }

    /// Starts it again on its port.
    ///
    /// # Errors
    /// Those of the network.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        let listening = runtime()?.block_on(Listening::start(self.port, self.shared.clone()))?;
        self.listening = Some(listening);
        Ok(())
    }

    /// Forgets all sequences, as after `max_sequence_idle_microseconds`.
    pub fn forget_sequences(&self) {
        lock(&self.shared.state).forget_sequences();
    }

    /// Sets what is wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        lock(&self.shared.state).faults = faults;
        self.shared.changed.notify_waiters();
    }

    /// Sets what the server says about the model.
    pub fn set_info(&self, info: ModelInfo) {
        lock(&self.shared.state).info = info;
    }

    /// Requests so far.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.shared.state).received.clone()
    }

    /// Headers of the last request.
    pub fn last_headers(&self) -> http::HeaderMap {
        lock(&self.shared.state).headers.clone()
    }

    /// Connections that it has accepted.
    pub fn connections(&self) -> usize {
        lock(&self.shared.state).connections
    }

    /// Sequences that have begun and not ended.
    pub fn sequences(&self) -> usize {
        lock(&self.shared.state).sequences.len()
    }
}

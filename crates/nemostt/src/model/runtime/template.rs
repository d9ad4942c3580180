// SPDX-License-Identifier: MIT OR Apache-2.0

//! What further sessions of a graph are loaded from.

use std::sync::Mutex;

use super::{
    LogLevel, log,
    session::{Replica, load},
};
use crate::{
    memory_guard,
    model::{Cancellation, target::Target},
};
use nemostt_compiler::Encoded;

/// A graph that can be loaded again. It keeps the files that it was read from, until it is [compacted](Self::compact).
pub(super) struct Template {
    graph: Encoded,
    name: String,
    target: Target,
}

impl Template {
    /// Shares the weights.
    pub(super) fn new(graph: &Encoded, name: &str, target: &Target) -> Box<Self> {
        Box::new(Self {
            graph: graph.clone(),
            name: name.into(),
            target: Target {
                // It is for the load of the model, which has ended.
                cancellation: Cancellation::default(),
                ..target.clone()
            },
        })
    }

    /// Copies the weights that it uses, but for packed ones, so that the files are freed. `None` if it refers to others.
    pub(super) fn compact(mut self: Box<Self>) -> Option<Box<Self>> {
        let compact = self.graph.compact().ok()?;
        let weights = compact.weights.concat();
        self.graph = Encoded::from_compact(
            compact.model,
            weights.into(),
            self.graph.packed_weights.clone(),
            self.graph.weights,
            self.graph.has_custom_ops,
        );
        Some(self)
    }

    /// Another session. If that fails, logs why and returns `None`.
    pub(super) fn load(&self, threads: usize) -> Option<Replica> {
        let Self { graph, name, target } = self;
        let weights = graph.files.iter().map(|(_, file)| file.len()).sum();
        let session = memory_guard::check_bytes(weights, "load another session")
            .and_then(|()| load(graph.clone(), threads, name, target, false));
        match session {
            Ok(session) => Some(Mutex::new(session)),
            Err(error) => {
                let line =
                    format!("{name}: many streams share a session, because another one cannot be loaded: {error}");
                log(LogLevel::Warning, &line);
                None
            }
        }
    }
}

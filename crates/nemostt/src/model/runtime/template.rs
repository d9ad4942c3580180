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

/// A graph that can be loaded again. Packed weights are shared; the others are copied.
pub(super) struct Template {
    graph: Encoded,
    name: String,
    target: Target,
}

impl Template {
    pub(super) fn new(graph: &Encoded, name: &str, target: &Target) -> Option<Box<Self>> {
        // Without what is not in use of the files that it was read from.
        let compact = graph.compact().ok()?;
        let weights = compact.weights.concat();
        let packed_weights = graph.packed_weights.clone();
        Some(Box::new(Self {
            graph: Encoded::from_compact(
                compact.model,
                weights.into(),
                packed_weights,
                graph.weights,
                graph.has_custom_ops,
            ),
            name: name.into(),
            target: Target {
                // It is for the load of the model, which has ended.
                cancellation: Cancellation::default(),
                ..target.clone()
            },
        }))
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

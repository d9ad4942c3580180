// SPDX-License-Identifier: MIT OR Apache-2.0

//! Loading and starting ONNX Runtime.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use ort::{environment::Environment, session::Session, value::Tensor};

use super::{commits, exit, failed, logging, telemetry};
use crate::{
    error::{Error, Result},
    memory_guard,
    model::dylib::candidates,
    sync::lock,
};

static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// A graph with one `Identity` node of one value, serialized.
pub(super) const SMALLEST_GRAPH: &[u8] = b"\x08\x07\x3a\x37\
    \x0a\x10\x0a\x01x\x12\x01y\x22\x08Identity\
    \x12\x01g\
    \x5a\x0f\x0a\x01x\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01\
    \x62\x0f\x0a\x01y\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01\
    \x42\x02\x10\x0d";

/// Loads ONNX Runtime unless it is loaded already. A failure is not remembered: the next call tries again. The thread
/// must have [entered](exit::enter).
pub(super) fn environment(directories: &[PathBuf]) -> Result<Environment> {
    let mut current = lock(&ENVIRONMENT);
    if let Some(environment) = &*current {
        return Ok(environment.clone());
    }
    exit::guard_thread();
    exit::begin();
    memory_guard::check_bytes(memory_guard::LIBRARY, "load ONNX Runtime")?;
    telemetry::disable();
    let mut reason = String::new();
    let candidates = candidates(directories);
    for path in &candidates {
        match ort::init_from(path) {
            Ok(builder) => {
                exit::register();
                memory_guard::check_bytes(memory_guard::START, "start ONNX Runtime")?;
                let builder = builder.with_name("nemostt").with_telemetry(false);
                let builder = builder.with_logger(Arc::new(|level, _, _, _, message| logging::forward(level, message)));
                let environment = builder.build().map_err(|error| failed("start", error))?;
                logging::limit(&environment);
                exit::register();
                commits::find(path);
                // Loading the first graph creates most of the library's static objects. Any failure here will occur
                // again with the model.
                let _ = run_smallest_graph(&environment);
                exit::end();
                *current = Some(environment.clone());
                return Ok(environment);
            }
            Err(error) => reason = explain(&error),
        }
    }
    Err(Error::RuntimeMissing {
        tried: candidates.iter().map(|path| path.display().to_string()).collect(),
        minimum: format!("1.{}", ort::MINOR_VERSION),
        reason,
    })
}

fn run_smallest_graph(environment: &Environment) -> ort::Result<()> {
    let builder = Session::builder(environment)?;
    let mut session = builder.with_intra_threads(1)?.commit_from_memory(SMALLEST_GRAPH)?;
    let input = Tensor::<f32>::new(&ort::memory::Allocator::default(), [1_i64])?;
    session.run(ort::inputs![input])?;
    Ok(())
}

/// Includes `dlopen`'s message, which is only in the error's source.
fn explain(error: &ort::LoadDynamicError) -> String {
    let cause = match error {
        ort::LoadDynamicError::Dlopen { error, .. } => std::error::Error::source(error),
        _ => None,
    };
    match cause {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

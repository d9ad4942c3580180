// SPDX-License-Identifier: MIT OR Apache-2.0

//! ONNX Runtime: `ort` is only used in this folder. Custom operators are in [`custom_ops`].
//!
//! The library is loaded with the first model, from the first of: `ORT_DYLIB_PATH`; the directories that the caller
//! names (the plugin's own), and `nemostt` beside one named `gstreamer-1.0`; the loader's path. One environment serves
//! the whole process, because ONNX Runtime allows only one.

mod commits;
mod constants;
mod custom_ops;
mod environment;
mod exit;
mod kernel_io;
mod program;
mod providers;
mod replicas;
mod session;
mod telemetry;

use std::{fmt::Display, sync::OnceLock};

use ort::value::PrimitiveTensorElementType;

use self::exit::Owned;
pub use self::exit::guard_thread;
pub(crate) use self::{
    commits::stop_unwanted as stop_unwanted_loads,
    exit::{enter, is_exiting},
    program::LinkedProgram,
    providers::device_of,
    session::{Binding, Session},
};
use super::{
    target::Target,
    thread_policy::{max_threads, threads_for},
};
use crate::error::{Error, Result};
use nemostt_compiler::GraphError;

/// Severity of a line of ONNX Runtime's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum LogLevel {
    Verbose,
    Info,
    Warning,
    Error,
}

type Logger = Box<dyn Fn(LogLevel, &str) + Send + Sync>;
static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Sends ONNX Runtime's log to `logger` instead of stderr. Takes effect if called before the first model is loaded;
/// only the first call counts.
pub fn set_runtime_logger(logger: impl Fn(LogLevel, &str) + Send + Sync + 'static) {
    // Only the first call counts.
    let _ = LOGGER.set(Box::new(logger));
}

fn forward_log(level: ort::logging::LogLevel, message: &str) {
    use ort::logging::LogLevel as OrtLevel;
    let level = match level {
        OrtLevel::Verbose => LogLevel::Verbose,
        OrtLevel::Info => LogLevel::Info,
        OrtLevel::Warning => LogLevel::Warning,
        OrtLevel::Error | OrtLevel::Fatal => LogLevel::Error,
    };
    log(level, message);
}

/// Logs to where ONNX Runtime's log goes.
pub(crate) fn log(level: LogLevel, message: &str) {
    if let Some(logger) = LOGGER.get() {
        logger(level, message);
    }
}

fn failed(doing: impl Into<String>, reason: impl Display) -> Error {
    let (doing, reason) = (doing.into(), reason.to_string());
    match is_out_of_memory(&reason) {
        true => Error::OutOfMemory { doing, reason },
        false => Error::Runtime { doing, reason },
    }
}

/// The error for a graph `name` that ONNX Runtime rejected.
fn session_error(name: &str, error: &impl Display) -> Error {
    let reason = error.to_string();
    match is_out_of_memory(&reason) {
        true => Error::OutOfMemory {
            doing: format!("load {name}"),
            reason,
        },
        false => Error::BadModel {
            path: name.into(),
            fault: GraphError::Refused(reason),
        },
    }
}

/// ONNX Runtime has no error code for this; these are messages of the C++ library and of its allocators.
fn is_out_of_memory(reason: &str) -> bool {
    [
        "bad_alloc",
        "bad allocation",
        "ailed to allocate memory",
        "out of memory",
    ]
    .iter()
    .any(|words| reason.contains(words))
}

/// Threads for the graph of file `name` with this many bytes of weights. Warns if they are fewer than requested.
pub(super) fn threads_of(target: &Target, name: &str, weights: usize) -> usize {
    let threads = threads_for(target.threads, weights);
    if let Some(available) = max_threads(target.threads) {
        let requested = target.threads;
        let line = format!("{name} runs on {threads} of {requested} threads: {available} processors are available");
        log(LogLevel::Warning, &line);
    }
    threads
}

/// A tensor in host memory, allocated once and written in place.
#[derive(Debug)]
pub(crate) struct Tensor<T: PrimitiveTensorElementType + std::fmt::Debug>(Owned<ort::value::Tensor<T>>);

impl<T: PrimitiveTensorElementType + std::fmt::Debug> Tensor<T> {
    /// A tensor of zeros.
    pub(crate) fn zeros(shape: &[usize]) -> Result<Self> {
        let _inside = enter()?;
        let shape: Vec<i64> = shape.iter().map(|&dim| dim as i64).collect();
        // `Tensor::new` writes zeros into host memory.
        let tensor = ort::value::Tensor::new(&ort::memory::Allocator::default(), shape);
        let tensor = tensor.map_err(|error| failed("allocate a tensor", error))?;
        Ok(Self(Owned::new(tensor)))
    }

    /// Values in row-major order.
    pub(crate) fn data(&self) -> &[T] {
        self.0.extract_tensor().1
    }

    /// Values in row-major order.
    pub(crate) fn data_mut(&mut self) -> &mut [T] {
        self.0.extract_tensor_mut().1
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! ONNX Runtime: `ort` is only used in this folder. Custom operators are in [`custom_ops`].
//!
//! The library is loaded with the first model, from the first of: `ORT_DYLIB_PATH`; the directories that the caller
//! names (the plugin's own), and `nemostt` beside one named `gstreamer-1.0`; the loader's path. One environment serves
//! the whole process, because ONNX Runtime allows only one.

mod binding;
mod commits;
mod constants;
mod custom_ops;
mod device_error;
mod device_tensors;
mod environment;
mod exit;
mod graph_capture;
mod kernel_io;
mod logging;
mod program;
mod providers;
mod replicas;
mod session;
mod telemetry;
mod template;

use std::fmt::Display;

use ort::value::PrimitiveTensorElementType;

use self::exit::Owned;
pub(crate) use self::{
    binding::Binding,
    commits::stop_unwanted as stop_unwanted_loads,
    device_tensors::{DeviceTensor, StagedTensor},
    exit::{enter, is_exiting},
    graph_capture::BatchRun,
    logging::log,
    program::LinkedProgram,
    providers::device_of,
    session::Session,
};
pub use self::{
    exit::guard_thread,
    logging::{LogLevel, set_runtime_logger},
};
use super::{
    target::Target,
    thread_policy::{max_threads, threads_for},
};
use crate::error::{Error, Result};
use nemostt_compiler::GraphError;

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

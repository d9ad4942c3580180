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
mod telemetry;

use std::{
    fmt::Display,
    sync::{Mutex, OnceLock},
};

use ort::{
    environment::Environment,
    ep::{self, ExecutionProvider},
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    session::{IoBinding, builder::SessionBuilder},
    value::PrimitiveTensorElementType,
};

pub use self::exit::guard_thread;
pub(crate) use self::{
    commits::stop_unwanted as stop_unwanted_loads,
    exit::{enter, is_exiting},
    program::LinkedProgram,
};
use self::{environment::environment, exit::Owned};
use super::{
    Device, Options,
    compile::out_of_memory,
    target::Target,
    thread_policy::{max_threads, threads_for, wait_for},
};
use crate::{
    error::{Error, Result},
    memory_guard,
    sync::lock,
};
use nemostt_compiler::{Encoded, Graph, GraphError, pipeline::Recorder};

/// Whether a graph with custom operators has been loaded. ONNX Runtime registers their domain for the whole process
/// when the first one is, without locking: loading two at the same time would fail.
static CUSTOM_DOMAIN_LOADED: Mutex<bool> = Mutex::new(false);

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

/// A loaded, optimized graph, shared by all streams. Runs are serialized.
pub(crate) struct Session {
    // `ort` needs `&mut` to run.
    session: Mutex<Owned<ort::session::Session>>,
    device: Device,
    threads: usize,
}

/// Resolves the device of `options`; never returns `Auto`.
pub(crate) fn device_of(options: &Options) -> Result<Device> {
    options.cancellation.check()?;
    let _inside = enter()?;
    // The available devices are known once ONNX Runtime is loaded.
    environment(&options.runtime_directories)?;
    pick_device(options.device)
}

/// Encodes `graph` for ONNX Runtime on `target`; `name` is for messages.
fn encode(mut graph: Graph, name: &str, target: &Target) -> Result<Encoded> {
    memory_guard::check(format!("load {name}"))?;
    let result = Recorder::default().convert_fp16(&mut graph, &target.passes);
    result.map_err(|error| out_of_memory(name, error))?;
    Ok(graph.encode())
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

impl Session {
    /// Loads a graph; `name` is for messages.
    pub(crate) fn load(graph: Graph, name: &str, target: &Target) -> Result<Self> {
        Self::load_encoded(encode(graph, name, target)?, name, target)
    }

    /// Loads an encoded graph; `name` is for messages.
    pub(crate) fn load_encoded(graph: Encoded, name: &str, target: &Target) -> Result<Self> {
        target.cancellation.check()?;
        let _inside = enter()?;
        // ONNX Runtime was loaded when the target was resolved.
        let environment = environment(&[])?;
        let device = target.device;
        let threads = threads_of(target, name, graph.weights);
        let builder =
            configure(&environment, device, threads, wait_for(graph.weights)).map_err(|error| match device {
                Device::Cuda => Error::Device {
                    device: "cuda",
                    reason: error.to_string(),
                },
                _ => failed("create a session", error),
            })?;
        let mut builder = builder;
        for (file, bytes) in graph.files {
            let added = builder.with_external_initializer_file_in_memory(file, bytes);
            builder = added.map_err(|error| failed("pass weights to ONNX Runtime", error))?;
        }
        let mut first_load = None;
        if graph.has_custom_ops {
            let added = custom_ops::all(&graph.packed_weights.into(), threads)
                .and_then(|operators| Ok(builder.with_operators(operators)?));
            builder = added.map_err(|error| failed("register custom operators", error))?;
            first_load = Some(lock(&CUSTOM_DOMAIN_LOADED)).filter(|is_loaded| !**is_loaded);
        }
        // ONNX Runtime packs the weights into its own layout; the files are freed with the builder.
        let session = commits::load(&mut builder, &graph.model, &target.cancellation);
        exit::register_late();
        let session = Owned::new(session.map_err(|error| {
            let cancelled = target.cancellation.check().err();
            cancelled.unwrap_or_else(|| session_error(name, &error))
        })?);
        if let Some(is_loaded) = &mut first_load {
            **is_loaded = true;
        }
        drop(first_load);
        Ok(Self {
            session: Mutex::new(session),
            device,
            threads,
        })
    }

    /// Intra-op threads.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// An empty binding for [`run`](Self::run).
    pub(crate) fn bind(&self) -> Result<Binding> {
        let _inside = enter()?;
        let session = lock(&self.session);
        let binding = session
            .create_binding()
            .map_err(|error| failed("bind tensors", error))?;
        Ok(Binding(Owned::new(binding)))
    }

    /// The shape of `output` after a run with the inputs of `binding`.
    pub(crate) fn sizes_of(&self, binding: &mut Binding, output: &str) -> Result<Vec<usize>> {
        let doing = || format!("find the shape of {output}");
        let _inside = enter()?;
        binding
            .allocate_output(output)
            .map_err(|error| failed(doing(), error))?;
        let mut session = lock(&self.session);
        let outputs = session
            .run_binding(&binding.0)
            .map_err(|error| failed(doing(), error))?;
        let value = outputs.get(output).ok_or_else(|| failed(doing(), "no such output"))?;
        Ok(value.shape().iter().map(|&size| size.max(0) as usize).collect())
    }

    /// Runs the graph on the tensors of `binding`.
    pub(crate) fn run(&self, binding: &Binding, doing: &str) -> Result<()> {
        let _inside = enter()?;
        let mut session = lock(&self.session);
        let outputs = session.run_binding(&binding.0).map_err(|error| failed(doing, error))?;
        drop(outputs);
        if self.device == Device::Cuda {
            binding.0.synchronize_outputs().map_err(|error| failed(doing, error))?;
        }
        Ok(())
    }
}

fn pick_device(requested: Device) -> Result<Device> {
    let cuda = || ep::CUDA::is_available().unwrap_or(false);
    match requested {
        Device::Auto if cuda() => Ok(Device::Cuda),
        Device::Auto => Ok(Device::Cpu),
        Device::Cuda if !cuda() => Err(Error::Device {
            device: "cuda",
            reason: "this ONNX Runtime was built without CUDA".into(),
        }),
        named => Ok(named),
    }
}

fn configure(environment: &Environment, device: Device, threads: usize, wait: u32) -> ort::Result<SessionBuilder> {
    let mut builder = ort::session::Session::builder(environment)?;
    builder = builder.with_intra_threads(threads)?;
    // A step is hundreds of short operators, and waking a worker for each takes longer than many of them, so workers
    // spin while a step runs (1.2 times as fast on two cores). Between steps, which is most of the time with live
    // audio, they sleep.
    builder = builder.with_intra_op_spinning(threads != 1)?;
    match wait {
        0 => builder = builder.with_config_entry("session.force_spinning_stop", "1")?,
        _ => builder = builder.with_config_entry("session.intra_op.spin_duration_us", wait.to_string())?,
    }
    // Otherwise, weights that were packed and are no longer needed leave holes in the arena (80 MB with 114M
    // parameters).
    builder = builder.with_device_allocated_initializers()?;
    if device == Device::Cuda {
        // TF32 has 10 bits of mantissa: the transcript would differ from NeMo's.
        let cuda = ep::CUDA::default().with_tf32(false).build().error_on_failure();
        builder = builder.with_execution_providers([cuda])?;
    }
    Ok(builder)
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

/// The tensors that a run reads and writes.
#[derive(Debug)]
pub(crate) struct Binding(Owned<IoBinding>);

impl Binding {
    /// Reads input `name` from `tensor`.
    pub(crate) fn input<T>(&mut self, name: &str, tensor: &Tensor<T>) -> Result<()>
    where
        T: PrimitiveTensorElementType + std::fmt::Debug,
    {
        let _inside = enter()?;
        let bound = self.0.bind_input(name, &tensor.0);
        bound.map_err(|error| failed(format!("bind input {name}"), error))
    }

    /// Lets a run allocate output `name`, whose shape is not known.
    fn allocate_output(&mut self, name: &str) -> ort::Result<()> {
        let memory = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default)?;
        self.0.bind_output_to_device(name, &memory)
    }

    /// Writes output `name` to `tensor`.
    pub(crate) fn output<T>(&mut self, name: &str, tensor: &mut Tensor<T>) -> Result<()>
    where
        T: PrimitiveTensorElementType + std::fmt::Debug,
    {
        let _inside = enter()?;
        let bound = self.0.bind_output(name, tensor.0.view_mut());
        bound.map_err(|error| failed(format!("bind output {name}"), error))
    }
}

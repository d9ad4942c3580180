// SPDX-License-Identifier: MIT OR Apache-2.0

//! ONNX Runtime: nothing outside of this folder names `ort`. Operations of our own are in [`custom_ops`].
//!
//! The library is loaded when the first model is, from the first of: `ORT_DYLIB_PATH`; the directories the caller names
//! (the plugin's own) and `nemostt` beside one named `gstreamer-1.0`; the loader's path. One environment serves the whole process, for ONNX Runtime allows no second.

mod commits;
mod custom_ops;
mod environment;
mod exit;
mod kernel_io;
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
pub(crate) use self::{commits::stop_unwanted as stop_unwanted_loads, exit::is_exiting};
use self::{
    environment::environment,
    exit::{Owned, enter},
};
use super::{
    Device, Options, PrecisionChoice,
    thread_policy::{most_threads, threads_for, wait_for},
};
use crate::{
    error::{Error, Result},
    memory_guard,
    sync::lock,
};
use nemostt_compiler::{Encoded, Graph, GraphError, Precision};

/// Whether a graph with operations of ours was loaded. ONNX Runtime notes their domain for the whole process when the first
/// one is, without a lock of its own: a second one at the same time would be refused.
static CUSTOM_DOMAIN_LOADED: Mutex<bool> = Mutex::new(false);

/// How grave a line of ONNX Runtime's log is.
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

/// Sends ONNX Runtime's log to `logger` instead of stderr. Counts if it is called before the first model is loaded, once.
pub fn set_runtime_logger(logger: impl Fn(LogLevel, &str) + Send + Sync + 'static) {
    // The first one stays.
    let _ = LOGGER.set(Box::new(logger));
}

fn forward_log(level: ort::logging::LogLevel, message: &str) {
    use ort::logging::LogLevel as Theirs;
    let level = match level {
        Theirs::Verbose => LogLevel::Verbose,
        Theirs::Info => LogLevel::Info,
        Theirs::Warning => LogLevel::Warning,
        Theirs::Error | Theirs::Fatal => LogLevel::Error,
    };
    log(level, message);
}

/// Sends a line of our own where ONNX Runtime's log goes.
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

/// Why ONNX Runtime does not take the graph `name`.
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

/// ONNX Runtime has no code of its own for it: these are the words of the C++ library and of its allocators.
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

/// A graph, loaded and optimised. Streams share it: one at a time runs on it.
pub(crate) struct Session {
    // `ort` takes `&mut` to run.
    session: Mutex<Owned<ort::session::Session>>,
    device: Device,
    threads: usize,
}

/// The device that `options` come down to: never `Auto`.
pub(crate) fn device_of(options: &Options) -> Result<Device> {
    options.cancellation.check()?;
    let _inside = enter()?;
    // Which devices there are is known once ONNX Runtime is loaded.
    environment(&options.runtime_directories)?;
    pick_device(options.device)
}

/// `graph` as ONNX Runtime takes it on the device that `options` come down to; `name` is for messages.
pub(crate) fn encode(mut graph: Graph, name: &str, options: &Options) -> Result<Encoded> {
    memory_guard::check(format!("load {name}"))?;
    let wide = device_of(options)? == Device::Cpu || options.precision == PrecisionChoice::Fp32;
    if wide && graph.precision() == Precision::Fp16 {
        graph.fp16_to_fp32().map_err(|error| Error::OutOfMemory {
            doing: format!("widen the weights of {name}"),
            reason: error.to_string(),
        })?;
    }
    Ok(graph.encode())
}

impl Session {
    /// Loads a graph; `name` is for messages.
    pub(crate) fn load(graph: Graph, name: &str, options: &Options) -> Result<Self> {
        Self::load_encoded(encode(graph, name, options)?, name, options)
    }

    /// Loads a graph that is encoded; `name` is for messages.
    pub(crate) fn load_encoded(graph: Encoded, name: &str, options: &Options) -> Result<Self> {
        options.cancellation.check()?;
        let _inside = enter()?;
        let environment = environment(&options.runtime_directories)?;
        let device = pick_device(options.device)?;
        let threads = threads_for(options.threads, graph.weights);
        if let Some(most) = most_threads(options.threads) {
            let asked = options.threads;
            let line = format!("{name} runs on {threads} of {asked} threads: {most} processors may be used");
            log(LogLevel::Warning, &line);
        }
        let builder =
            configure(&environment, device, threads, wait_for(graph.weights)).map_err(|error| match device {
                Device::Cuda => Error::Device {
                    device: "cuda",
                    reason: error.to_string(),
                },
                _ => failed("set up a session", error),
            })?;
        let mut builder = builder;
        for (file, bytes) in graph.files {
            let added = builder.with_external_initializer_file_in_memory(file, bytes);
            builder = added.map_err(|error| failed("hand over weights", error))?;
        }
        let mut first = None;
        if graph.has_our_operations {
            let added =
                custom_ops::all(&graph.products.into(), threads).and_then(|ours| Ok(builder.with_operators(ours)?));
            builder = added.map_err(|error| failed("add our operations", error))?;
            first = Some(lock(&CUSTOM_DOMAIN_LOADED)).filter(|is_known| !**is_known);
        }
        // ONNX Runtime packs the weights into its own order; the files are freed with the builder.
        let session = commits::load(&mut builder, &graph.model, &options.cancellation);
        exit::register_late();
        let session = Owned::new(session.map_err(|error| {
            let unwanted = options.cancellation.check().err();
            unwanted.unwrap_or_else(|| session_error(name, &error))
        })?);
        if let Some(is_known) = &mut first {
            **is_known = true;
        }
        drop(first);
        Ok(Self {
            session: Mutex::new(session),
            device,
            threads,
        })
    }

    /// The device it runs on: never `Auto`.
    pub(crate) fn device(&self) -> Device {
        self.device
    }

    /// Threads within one operation.
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

    /// Sizes of `output` after a run on the inputs of `binding`.
    pub(crate) fn sizes_of(&self, binding: &mut Binding, output: &str) -> Result<Vec<usize>> {
        let doing = || format!("find the size of {output}");
        let _inside = enter()?;
        let memory = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default);
        let bound = memory.and_then(|memory| binding.0.bind_output_to_device(output, &memory));
        bound.map_err(|error| failed(doing(), error))?;
        let mut session = lock(&self.session);
        let outputs = session
            .run_binding(&binding.0)
            .map_err(|error| failed(doing(), error))?;
        let value = outputs
            .get(output)
            .ok_or_else(|| failed(doing(), "there is no such output"))?;
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

fn pick_device(asked: Device) -> Result<Device> {
    let cuda = || ep::CUDA::is_available().unwrap_or(false);
    match asked {
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
    // A step is hundreds of short operations, and waking a worker for each takes longer than many of them: workers wait
    // in a loop while a step runs (1.2 times as fast on two cores). Between steps, which is most of the time with live
    // audio, they sleep.
    builder = builder.with_intra_op_spinning(threads != 1)?;
    match wait {
        0 => builder = builder.with_config_entry("session.force_spinning_stop", "1")?,
        _ => builder = builder.with_config_entry("session.intra_op.spin_duration_us", wait.to_string())?,
    }
    // Else weights that were packed and are not needed any more leave holes in the arena (80 MB of 114M parameters).
    builder = builder.with_device_allocated_initializers()?;
    if device == Device::Cuda {
        // TF32 rounds to 10 bits of mantissa: another text than NeMo's.
        let cuda = ep::CUDA::default().with_tf32(false).build().error_on_failure();
        builder = builder.with_execution_providers([cuda])?;
    }
    Ok(builder)
}

/// A tensor in host memory that lives as long as its owner: written in place, never reallocated.
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

    /// Its values, row by row.
    pub(crate) fn data(&self) -> &[T] {
        self.0.extract_tensor().1
    }

    /// Its values, row by row.
    pub(crate) fn data_mut(&mut self) -> &mut [T] {
        self.0.extract_tensor_mut().1
    }
}

/// Which tensors a run reads and writes.
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

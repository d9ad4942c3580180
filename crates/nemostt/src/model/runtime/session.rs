// SPDX-License-Identifier: MIT OR Apache-2.0

//! A loaded graph, and the tensors that a run reads and writes.

use std::sync::Mutex;

use ort::{
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    session::IoBinding,
    value::PrimitiveTensorElementType,
};

use super::{
    Tensor, commits, configure, custom_ops,
    environment::environment,
    exit::{self, Owned, enter},
    failed, session_error, threads_of,
};
use crate::{
    error::{Error, Result},
    memory_guard,
    model::{Device, compile::out_of_memory, target::Target, thread_policy::wait_for},
    sync::lock,
};
use nemostt_compiler::{Encoded, Graph, pipeline::Recorder};

/// Whether a graph with custom operators has been loaded. ONNX Runtime registers their domain for the whole process
/// when the first one is, without locking: loading two at the same time would fail.
pub(super) static CUSTOM_DOMAIN_LOADED: Mutex<bool> = Mutex::new(false);

/// A loaded, optimized graph, shared by all streams. Runs are serialized.
pub(crate) struct Session {
    // `ort` needs `&mut` to run.
    pub(super) session: Mutex<Owned<ort::session::Session>>,
    device: Device,
    threads: usize,
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

/// Encodes `graph` for ONNX Runtime on `target`; `name` is for messages.
fn encode(mut graph: Graph, name: &str, target: &Target) -> Result<Encoded> {
    memory_guard::check(format!("load {name}"))?;
    let result = Recorder::default().convert_fp16(&mut graph, &target.passes);
    result.map_err(|error| out_of_memory(name, error))?;
    Ok(graph.encode())
}

/// The tensors that a run reads and writes.
#[derive(Debug)]
pub(crate) struct Binding(pub(super) Owned<IoBinding>);

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
    pub(super) fn allocate_output(&mut self, name: &str) -> ort::Result<()> {
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

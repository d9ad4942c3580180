// SPDX-License-Identifier: MIT OR Apache-2.0

//! A loaded graph.

use std::sync::Mutex;

use ort::session::RunOptions;

use super::{
    Binding, commits, custom_ops,
    environment::environment,
    exit::{self, Owned, enter},
    failed,
    graph_capture::shared_use,
    providers::configure,
    replicas::{Limits, Replicas},
    session_error,
    template::Template,
    threads_of,
};
use crate::{
    device::Device,
    error::Result,
    memory_guard,
    model::{compile::out_of_memory, processors, target::Target, thread_policy::wait_for},
    sync::lock,
};
use nemostt_compiler::{
    Encoded, Graph,
    pipeline::{self, Recorder},
};

/// Whether a graph with custom operators has been loaded. ONNX Runtime registers their domain for the whole process
/// when the first one is, without locking: loading two at the same time would fail.
pub(super) static CUSTOM_DOMAIN_LOADED: Mutex<bool> = Mutex::new(false);

/// Users of a session, while there are fewer sessions than processors. A stream has up to two bindings of a session,
/// because it swaps its buffers.
const BINDINGS_PER_SESSION: usize = 8;

/// A loaded, optimized graph, shared by all streams. Runs of a binding are serialized with those of the other bindings
/// of its replica.
pub(crate) struct Session {
    replicas: Replicas<Replica>,
    /// What further replicas are loaded from.
    template: Option<Box<Template>>,
    pub(super) device: Device,
    /// Whether runs of a batch are recorded.
    pub(super) captures: bool,
    threads: usize,
    #[cfg(any(test, feature = "fuzzing"))]
    failing: Option<std::sync::Arc<crate::model::failing_device::FailingDevice>>,
}

/// `ort` needs `&mut` to run, and kernels of custom operators have memory for one run.
pub(super) type Replica = Mutex<Owned<ort::session::Session>>;

impl Session {
    /// Loads a graph of the decoder, which is loaded again when there are many streams; `name` is for messages. It keeps the
    /// files that the graph was read from, until [`free_files`](Self::free_files).
    pub(crate) fn load(graph: Graph, name: &str, target: &Target) -> Result<Self> {
        let graph = encode(graph, name, target)?;
        let processors = processors::usable();
        let template = (target.device == Device::Cpu && processors > 1).then(|| Template::new(&graph, name, target));
        Self::start(graph, template, name, target, false)
    }

    /// Copies the weights of further sessions, so that the files that the graph was read from are freed. Not called for
    /// sessions that are only needed while a model is loaded.
    pub(crate) fn free_files(&mut self) {
        self.template = self.template.take().and_then(Template::compact);
    }

    /// Loads an encoded graph, for one run at a time; `name` is for messages.
    pub(crate) fn load_encoded(graph: Encoded, name: &str, target: &Target) -> Result<Self> {
        Self::load_with(graph, name, target, false)
    }

    /// As [`load_encoded`](Self::load_encoded). `captures`: whether runs of a batch are recorded.
    pub(super) fn load_with(graph: Encoded, name: &str, target: &Target, captures: bool) -> Result<Self> {
        Self::start(graph, None, name, target, captures)
    }

    fn start(
        graph: Encoded,
        template: Option<Box<Template>>,
        name: &str,
        target: &Target,
        captures: bool,
    ) -> Result<Self> {
        let threads = threads_of(target, name, graph.weights);
        let session = load(graph, threads, name, target, captures)?;
        let limits = Limits {
            max: if template.is_some() { processors::usable() } else { 1 },
            users: BINDINGS_PER_SESSION,
        };
        Ok(Self {
            replicas: Replicas::new(Mutex::new(session), limits),
            template,
            device: device_of_run(target),
            captures,
            threads,
            #[cfg(any(test, feature = "fuzzing"))]
            failing: target.failing.clone(),
        })
    }

    /// Intra-op threads.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// The session that was loaded first.
    pub(super) fn first(&self) -> &Replica {
        self.replicas.first()
    }

    /// An empty binding for [`run`](Self::run).
    pub(crate) fn bind(&self) -> Result<Binding> {
        let _inside = enter()?;
        #[cfg(any(test, feature = "fuzzing"))]
        self.failing
            .as_ref()
            .map_or(Ok(()), |device| device.run("bind tensors"))?;
        let replica = self.replicas.acquire(|| self.template.as_ref()?.load(self.threads));
        let binding = lock(&replica)
            .create_binding()
            .map_err(|error| failed("bind tensors", error))?;
        Ok(Binding {
            binding: Owned::new(binding),
            replica,
            #[cfg(any(test, feature = "fuzzing"))]
            copies_inputs: self.copies_inputs(),
        })
    }

    /// Whether a binding reads the values that an input has when it is bound, and not those that it has in a run: ONNX
    /// Runtime copies inputs to devices with memory of their own when they are bound (`IOBinding::BindInput`).
    pub(crate) fn copies_inputs(&self) -> bool {
        #[cfg(any(test, feature = "fuzzing"))]
        if self.failing.is_some() {
            return true;
        }
        matches!(self.device, Device::Cuda(_) | Device::TensorRt(_) | Device::DirectMl(_))
    }

    /// The shape of `output` after a run with the inputs of `binding`.
    pub(crate) fn sizes_of(&self, binding: &mut Binding, output: &str) -> Result<Vec<usize>> {
        let doing = || format!("find the shape of {output}");
        let _inside = enter()?;
        binding
            .allocate_output(output)
            .map_err(|error| failed(doing(), error))?;
        let mut session = lock(&binding.replica);
        let outputs = session
            .run_binding(&binding.binding)
            .map_err(|error| failed(doing(), error))?;
        let value = outputs.get(output).ok_or_else(|| failed(doing(), "no such output"))?;
        Ok(value.shape().iter().map(|&size| size.max(0) as usize).collect())
    }

    /// Runs the graph on the tensors of `binding`, which this session created.
    pub(crate) fn run(&self, binding: &Binding, doing: &str) -> Result<()> {
        let _shared = shared_use(self.device);
        self.run_with(binding, None, doing)
    }

    /// As [`run`](Self::run), with `options`, and without regard to recordings.
    pub(super) fn run_with(&self, binding: &Binding, options: Option<&RunOptions>, doing: &str) -> Result<()> {
        let _inside = enter()?;
        #[cfg(any(test, feature = "fuzzing"))]
        self.failing.as_ref().map_or(Ok(()), |device| device.run(doing))?;
        let mut session = lock(&binding.replica);
        let outputs = match options {
            Some(options) => session.run_binding_with_options(&binding.binding, options),
            None => session.run_binding(&binding.binding),
        };
        drop(outputs.map_err(|error| failed(doing, error))?);
        if self.device != Device::Cpu {
            let synchronized = binding.binding.synchronize_outputs();
            synchronized.map_err(|error| failed(doing, error))?;
        }
        #[cfg(any(test, feature = "fuzzing"))]
        if let Some(device) = &self.failing {
            device.check_panic();
        }
        Ok(())
    }
}

/// The device that runs the graphs of `target`.
pub(super) fn device_of_run(target: &Target) -> Device {
    #[cfg(any(test, feature = "fuzzing"))]
    if target.failing.is_some() {
        return Device::Cpu;
    }
    target.device
}

/// Loads an encoded graph into ONNX Runtime.
pub(super) fn load(
    graph: Encoded,
    threads: usize,
    name: &str,
    target: &Target,
    captures: bool,
) -> Result<Owned<ort::session::Session>> {
    target.cancellation.check()?;
    let _inside = enter()?;
    #[cfg(any(test, feature = "fuzzing"))]
    if let Some(device) = &target.failing {
        device.load().map_err(|error| session_error(name, &error))?;
    }
    // ONNX Runtime was loaded when the target was resolved.
    let environment = environment(&[])?;
    let device = device_of_run(target);
    let mut builder = configure(&environment, (device, captures), threads, wait_for(graph.weights))?;
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
    let _shared = shared_use(device);
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
    Ok(session)
}

/// Encodes `graph` for ONNX Runtime on `target`; `name` is for messages.
fn encode(mut graph: Graph, name: &str, target: &Target) -> Result<Encoded> {
    memory_guard::check(format!("load {name}"))?;
    // Also where encoders stay fp16: prediction network and joint are small, and ONNX Runtime 1.31.1 crashes when it loads a
    // specialized prediction network in fp16.
    let passes = pipeline::Target {
        convert_fp16: true,
        ..target.passes
    };
    let result = Recorder::default().convert_fp16(&mut graph, &passes);
    result.map_err(|error| out_of_memory(name, error))?;
    Ok(graph.encode())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{super::Tensor, *};
    use crate::model::{Options, tests::transducer_in};

    #[test]
    fn many_bindings_run_in_sessions_of_their_own() {
        [false, true].into_iter().for_each(check_replicas);
    }

    fn check_replicas(frees_files: bool) {
        let graphs = transducer_in("assets/demo-model/decoder_joint-model.onnx");
        let shape = graphs.shape().unwrap();
        let target = Target::resolve(&Options::default()).unwrap();
        let graph = graphs.prediction.encode();
        // As on a machine with three processors, whatever this one has.
        let template = Some(Template::new(&graph, "demo", &target));
        let file = std::sync::Arc::downgrade(&graph.files[0].1);
        let mut session = Session::start(graph, template, "demo", &target, false).unwrap();
        if frees_files {
            session.free_files();
        }
        drop(graphs.joint);
        assert_eq!(file.upgrade().is_none(), frees_files);
        assert!(session.template.is_some());
        session.replicas.set_max(3);

        let dims = [shape.layers, 1, shape.hidden];
        let predict = |token: i32| {
            let mut binding = session.bind().unwrap();
            let mut targets: Tensor<i32> = Tensor::zeros(&[1, 1]).unwrap();
            targets.data_mut()[0] = token;
            let state: Tensor<f32> = Tensor::zeros(&dims).unwrap();
            let mut next: Tensor<f32> = Tensor::zeros(&dims).unwrap();
            binding.input("targets", &targets).unwrap();
            binding.input("input_states_1", &state).unwrap();
            binding.input("input_states_2", &state).unwrap();
            binding.output("output_states_1", &mut next).unwrap();
            for output in ["prediction", "output_states_2"] {
                binding.allocate_output(output).unwrap();
            }
            session.run(&binding, "run the prediction network").unwrap();
            (binding, next.data().to_vec())
        };
        let runs: Vec<_> = (0..4 * BINDINGS_PER_SESSION).map(|_| predict(3)).collect();
        let mut replicas: Vec<_> = runs.iter().map(|(binding, _)| Arc::as_ptr(&binding.replica)).collect();
        replicas.sort();
        replicas.dedup();
        assert_eq!(replicas.len(), 3);
        assert!(runs.iter().all(|(_, next)| *next == runs[0].1));
        assert_ne!(predict(4).1, runs[0].1);
    }
}

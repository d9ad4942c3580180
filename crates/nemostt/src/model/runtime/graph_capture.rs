// SPDX-License-Identifier: MIT OR Apache-2.0

//! Runs of a batch, which CUDA replays as one graph where it can.
//!
//! A step is hundreds of kernels of a few microseconds, and launching each takes as long. With the CUDA provider's option
//! `enable_cuda_graph`, the first runs of a binding are recorded, and later ones launch the whole recording. What it reads
//! and writes must stay at the same addresses on the device: an input in host memory would be copied when the binding is
//! made, and later values would not be seen (onnxruntime issue 29782). The recording is found by the run option
//! `gpu_graph_id`; there is one for each size of a batch.
//!
//! Not run on a GPU so far.

use ort::session::RunOptions;

use super::{Binding, LogLevel, Session, enter, exit::Owned, failed, log, session::device_of_run};
use crate::{
    device::Device,
    error::{Error, Result},
    model::target::Target,
};
use nemostt_compiler::Encoded;

/// Options of the runs of one binding.
pub(crate) struct BatchRun(Option<Owned<RunOptions>>);

/// The run option with the number of a recording.
const GRAPH_ID: &str = "gpu_graph_id";

impl Session {
    /// Loads an encoded graph whose runs are recorded, if the device can do that; `name` is for messages.
    pub(crate) fn load_batched(graph: Encoded, name: &str, target: &Target) -> Result<Self> {
        let (Device::Cuda(_), true) = (device_of_run(target), target.capture_graphs) else {
            return Self::load_encoded(graph, name, target);
        };
        match Self::load_with(graph.clone(), name, target, true) {
            // The provider requires that it runs all nodes itself.
            Err(error @ (Error::BadModel { .. } | Error::Runtime { .. })) => {
                let line = format!("{name} runs without CUDA graphs: {error}");
                log(LogLevel::Warning, &line);
                Self::load_encoded(graph, name, target)
            }
            result => result,
        }
    }

    /// Options of the runs of a batch of `size`.
    pub(crate) fn batch_run(&self, size: usize) -> Result<BatchRun> {
        if !self.captures {
            return Ok(BatchRun(None));
        }
        let _inside = enter()?;
        let options = || -> ort::Result<RunOptions> {
            let mut options = RunOptions::new()?;
            options.set(GRAPH_ID, size.to_string())?;
            Ok(options)
        };
        let options = options().map_err(|error| failed("prepare the runs of a batch", error))?;
        Ok(BatchRun(Some(Owned::new(options))))
    }

    /// Runs the graph on the tensors of `binding`.
    pub(crate) fn run_batch(&self, binding: &Binding, run: &BatchRun, doing: &str) -> Result<()> {
        self.run_with(binding, run.0.as_deref(), doing)
    }
}

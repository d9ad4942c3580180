// SPDX-License-Identifier: MIT OR Apache-2.0

//! Runs of a batch, which CUDA replays as one graph where it can.
//!
//! A step is hundreds of kernels of a few microseconds, and launching each takes as long. With the CUDA provider's option
//! `enable_cuda_graph`, the first runs of a binding are recorded, and later ones launch the whole recording. What it reads
//! and writes must stay at the same addresses on the device: an input in host memory would be copied when the binding is
//! made, and later values would not be seen (onnxruntime issue 29782). The recording is found by the run option
//! `gpu_graph_id`; there is one for each size of a batch.
//!
//! While a thread records, no other one may use CUDA in the process: the provider captures in mode `Global`
//! (`cuda_graph.cc`), in which an allocation on another thread fails, and ends the recording.
//!
//! Not run on a GPU so far.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use ort::session::RunOptions;

use super::{Binding, Session, enter, exit::Owned, failed, session::device_of_run};
use crate::{device::Device, error::Result, model::target::Target};
use nemostt_compiler::Encoded;

/// Options of the runs of one binding.
pub(crate) struct BatchRun(Option<Owned<RunOptions>>);

/// Held by all who use CUDA; exclusively, by who records.
static RECORDING: RwLock<()> = RwLock::new(());

/// To be held while `device` is used, except for recording.
pub(super) fn shared_use(device: Device) -> Option<RwLockReadGuard<'static, ()>> {
    matches!(device, Device::Cuda(_)).then(|| RECORDING.read().unwrap_or_else(PoisonError::into_inner))
}

/// The run option with the number of a recording.
const GRAPH_ID: &str = "gpu_graph_id";

impl Session {
    /// Loads an encoded graph for batches, whose runs are recorded if the device can do that and `captures`; `name` is for
    /// messages.
    pub(crate) fn load_batched(graph: Encoded, name: &str, target: &Target, captures: bool) -> Result<Self> {
        let captures = captures && matches!(device_of_run(target), Device::Cuda(_));
        Self::load_with(graph, name, target, captures)
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

    /// Runs the graph on the tensors of `binding` for the first time, in which the run is recorded.
    pub(crate) fn record_batch(&self, binding: &Binding, run: &BatchRun, doing: &str) -> Result<()> {
        let _exclusive = self
            .captures
            .then(|| RECORDING.write().unwrap_or_else(PoisonError::into_inner));
        let _shared = (!self.captures).then(|| shared_use(self.device));
        self.run_with(binding, run.0.as_deref(), doing)
    }

    /// Runs the graph on the tensors of `binding`.
    pub(crate) fn run_batch(&self, binding: &Binding, run: &BatchRun, doing: &str) -> Result<()> {
        let _shared = shared_use(self.device);
        self.run_with(binding, run.0.as_deref(), doing)
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a model is compiled for and runs on: [`Options`] resolved for this machine, once.

use std::path::PathBuf;

#[cfg(any(test, feature = "fuzzing"))]
use super::failing_device::FailingDevice;
use super::{
    Cancellation,
    options::{Cache, GraphOptimization, Options, PrecisionChoice},
    runtime::{LogLevel, device_of, log},
};
use crate::{
    device::{Device, OpenVinoDevice},
    error::Result,
};
use nemostt_compiler::{Bits, pipeline};
use nemostt_kernels::gemm;

/// See the [module](self). The same for all graphs of a model, except for the number of threads.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Never [`Device::Auto`].
    pub(crate) device: Device,
    /// Requested threads; 0: depends on the size of the graph. See [`threads_for`](super::thread_policy::threads_for).
    pub(crate) threads: usize,
    /// See [`Options::max_batch`].
    pub(crate) max_batch: Option<usize>,
    /// See [`Options::lanes`].
    pub(crate) lanes: Option<usize>,
    /// See [`Options::max_streams`].
    pub(crate) max_streams: Option<usize>,
    /// Whether an encoder that runs in a session gets the steps of several streams in each run.
    pub(crate) batch_sessions: bool,
    /// See [`Options::cuda_graphs`].
    pub(crate) capture_graphs: bool,
    /// Whether graphs are specialized.
    pub(crate) specialize: bool,
    /// Options of the passes.
    pub(crate) passes: pipeline::Target,
    pub(crate) cache: Cache,
    /// See [`Options::dump_graphs`].
    pub(crate) dump_graphs: Option<PathBuf>,
    pub(crate) cancellation: Cancellation,
    /// What the CPU pretends to be.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) failing: Option<std::sync::Arc<FailingDevice>>,
}

impl Target {
    /// Resolves `options` for this machine. Loads ONNX Runtime, to find its devices.
    ///
    /// # Errors
    /// If ONNX Runtime or the device is missing, or the load is cancelled.
    pub(crate) fn resolve(options: &Options) -> Result<Self> {
        #[cfg(any(test, feature = "fuzzing"))]
        let failing =
            FailingDevice::current().filter(|_| matches!(options.device, Device::Auto | FailingDevice::DEVICE));
        #[cfg(any(test, feature = "fuzzing"))]
        let device = match &failing {
            // Loads ONNX Runtime.
            Some(_) => device_of(&FailingDevice::real_options(options)).map(|_| FailingDevice::DEVICE)?,
            None => device_of(options)?,
        };
        #[cfg(not(any(test, feature = "fuzzing")))]
        let device = device_of(options)?;
        let (is_cpu, is_int8) = (device == Device::Cpu, options.precision == PrecisionChoice::Int8);
        if is_int8 && !is_cpu {
            let line = "precision=int8 is not used: int8 is only supported on the CPU";
            log(LogLevel::Warning, line);
        }
        let specialize = options.graph_optimization == GraphOptimization::All;
        Ok(Self {
            device,
            threads: options.threads,
            max_batch: options.max_batch,
            lanes: options.lanes,
            max_streams: options.max_streams,
            batch_sessions: matches!(device, Device::Cuda(_)) || (is_cpu && options.batch_on_cpu),
            capture_graphs: options.cuda_graphs,
            specialize,
            passes: pipeline::Target {
                // Not measured on other processors, where ONNX Runtime's own kernels are fast enough.
                custom_ops: specialize && is_cpu && !options.batch_on_cpu && gemm::is_supported(),
                int8: (is_int8 && is_cpu).then(Bits::detect),
                convert_fp16: (is_cpu && !options.batch_on_cpu)
                    // It computes in float32, too.
                    || device == Device::OpenVino(OpenVinoDevice::Cpu)
                    || options.precision == PrecisionChoice::Fp32,
                clip_to_min_max: matches!(device, Device::OpenVino(_)),
            },
            cache: options.cache.clone(),
            dump_graphs: options.dump_graphs.clone(),
            cancellation: options.cancellation.clone(),
            #[cfg(any(test, feature = "fuzzing"))]
            failing,
        })
    }

    /// For an encoder that an inference server runs, on a GPU or on processors: all operations are ONNX's own, and the
    /// steps of several streams are one run. Nothing of this machine matters.
    pub(crate) fn served(options: &Options, gpu: bool) -> Self {
        Self {
            device: if gpu { Device::Cuda(0) } else { Device::Cpu },
            threads: 0,
            max_batch: None,
            lanes: None,
            max_streams: None,
            batch_sessions: true,
            capture_graphs: false,
            specialize: true,
            passes: pipeline::Target {
                custom_ops: false,
                int8: None,
                convert_fp16: !gpu || options.precision == PrecisionChoice::Fp32,
                clip_to_min_max: false,
            },
            cache: Cache::default(),
            dump_graphs: options.dump_graphs.clone(),
            cancellation: options.cancellation.clone(),
            #[cfg(any(test, feature = "fuzzing"))]
            failing: None,
        }
    }

    /// The same on the CPU, for graphs that are too small for a device: prediction network, joint, and what depends on
    /// lengths only. A token takes a run of each, in less time than copies to a device and back would take.
    pub(crate) fn on_cpu(&self) -> Self {
        let mut target = self.clone();
        if self.device != Device::Cpu {
            target.device = Device::Cpu;
            target.passes.custom_ops = self.specialize && gemm::is_supported();
            target.passes.convert_fp16 = true;
            target.passes.clip_to_min_max = false;
            #[cfg(any(test, feature = "fuzzing"))]
            {
                target.failing = None;
            }
        }
        target
    }

    /// The same with another number of threads.
    pub(crate) fn with_threads(&self, threads: usize) -> Self {
        Self {
            threads,
            ..self.clone()
        }
    }
}

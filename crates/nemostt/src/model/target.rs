// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a model is compiled for and runs on: all choices that [`Options`] leave to this machine, made once.

use std::path::PathBuf;

use super::{
    Cancellation,
    options::{Cache, Device, GraphOptimization, Options, PrecisionChoice},
    runtime::{LogLevel, device_of, log},
};
use crate::error::Result;
use nemostt_compiler::{Bits, pipeline};
use nemostt_kernels::gemm;

/// See the [module](self). The same for all graphs of a model, but for the number of threads.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Never [`Device::Auto`].
    pub(crate) device: Device,
    /// Threads that were asked for; 0: by the size of the graph. See [`threads_for`](super::thread_policy::threads_for).
    pub(crate) threads: usize,
    /// Whether graphs are specialized for the way in which they are run.
    pub(crate) specialize: bool,
    /// What passes need to know.
    pub(crate) passes: pipeline::Target,
    pub(crate) cache: Cache,
    /// See [`Options::dump_graphs`].
    pub(crate) dump_graphs: Option<PathBuf>,
    pub(crate) cancellation: Cancellation,
}

impl Target {
    /// Resolves `options` on this machine. ONNX Runtime is loaded for that: it knows the devices.
    ///
    /// # Errors
    /// ONNX Runtime is missing, or the device; the load is cancelled.
    pub(crate) fn resolve(options: &Options) -> Result<Self> {
        let device = device_of(options)?;
        let (is_cpu, is_int8) = (device == Device::Cpu, options.precision == PrecisionChoice::Int8);
        if is_int8 && !is_cpu {
            let line = "precision=int8 is not used: ONNX Runtime multiplies 8 bits on the processor only";
            log(LogLevel::Warning, line);
        }
        let specialize = options.graph_optimization == GraphOptimization::All;
        Ok(Self {
            device,
            threads: options.threads,
            specialize,
            passes: pipeline::Target {
                // On other processors they were not measured, and ONNX Runtime's own are fast enough.
                custom_ops: specialize && is_cpu && gemm::is_supported(),
                int8: (is_int8 && is_cpu).then(Bits::detect),
                widen_fp16: is_cpu || options.precision == PrecisionChoice::Fp32,
            },
            cache: options.cache.clone(),
            dump_graphs: options.dump_graphs.clone(),
            cancellation: options.cancellation.clone(),
        })
    }

    /// The same with another number of threads.
    pub(crate) fn with_threads(&self, threads: usize) -> Self {
        Self {
            threads,
            ..self.clone()
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Execution providers: which device runs the graphs, and how its sessions are configured.

use ort::{
    environment::Environment,
    ep::{self, ExecutionProvider},
    session::builder::SessionBuilder,
};

use super::{environment::environment, exit::enter};
use crate::{
    error::{Error, Result},
    model::{Device, Options},
};

/// Resolves the device of `options`; never returns `Auto`.
pub(crate) fn device_of(options: &Options) -> Result<Device> {
    options.cancellation.check()?;
    let _inside = enter()?;
    // The available devices are known once ONNX Runtime is loaded.
    environment(&options.runtime_directories)?;
    pick_device(options.device)
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

pub(super) fn configure(
    environment: &Environment,
    device: Device,
    threads: usize,
    wait: u32,
) -> ort::Result<SessionBuilder> {
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

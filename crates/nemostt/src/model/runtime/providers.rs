// SPDX-License-Identifier: MIT OR Apache-2.0

//! Execution providers: which device runs the graphs, and how its sessions are configured.
//!
//! All of them are looked for in the ONNX Runtime that was loaded, so that one build of nemostt serves any of its builds.

use ort::{
    environment::Environment,
    ep::{self, ExecutionProvider, ExecutionProviderDispatch},
    session::builder::SessionBuilder,
};

use super::{
    device_error,
    environment::{SMALLEST_GRAPH, environment},
    exit::enter,
    failed,
    logging::{LogLevel, collect_errors, log},
};
#[cfg(feature = "openvino")]
use crate::device::OpenVinoDevice;
use crate::{device::Device, error::Result, model::Options};

/// Resolves the device of `options`; never returns `Auto`.
///
/// # Errors
/// If ONNX Runtime or the device is missing.
pub(crate) fn device_of(options: &Options) -> Result<Device> {
    options.cancellation.check()?;
    let _inside = enter()?;
    // The available devices are known once ONNX Runtime is loaded.
    let environment = environment(&options.runtime_directories)?;
    pick_device(&environment, options.device)
}

fn pick_device(environment: &Environment, requested: Device) -> Result<Device> {
    match requested {
        Device::Cpu => Ok(Device::Cpu),
        Device::Auto => {
            let cuda = Device::Cuda(0);
            if !ep::CUDA::is_available().unwrap_or(false) {
                return Ok(Device::Cpu);
            }
            match probe(environment, cuda) {
                Ok(()) => Ok(cuda),
                Err(error) => {
                    log(LogLevel::Warning, &format!("device=auto is the CPU: {error}"));
                    Ok(Device::Cpu)
                }
            }
        }
        device => probe(environment, device).map(|()| device),
    }
}

/// Checks that `device` can be used.
fn probe(environment: &Environment, device: Device) -> Result<()> {
    let builder = ort::session::Session::builder(environment).map_err(|error| failed("create a session", error))?;
    let mut builder = add_provider(builder, (device, false), 1)?;
    // Others take long to compile even the smallest graph, or say already now that there is no device.
    if let Device::Cuda(_) = device {
        let (started, logged) = collect_errors(|| builder.commit_from_memory(SMALLEST_GRAPH));
        started.map_err(|error| device_error::explain(device, &error.to_string(), &logged))?;
    }
    Ok(())
}

/// A builder for a session on `device`. `captures`: whether CUDA records its runs.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device), or ONNX Runtime's errors.
pub(super) fn configure(
    environment: &Environment,
    (device, captures): (Device, bool),
    threads: usize,
    wait: u32,
) -> Result<SessionBuilder> {
    let builder = || -> ort::Result<SessionBuilder> {
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
        if let Device::DirectMl(_) = device {
            // DirectML does not support it: see ONNX Runtime's page about the provider.
            builder = builder.with_memory_pattern(false)?;
        }
        Ok(builder)
    };
    let builder = builder().map_err(|error| failed("create a session", error))?;
    match device {
        Device::Cpu => Ok(builder),
        _ => add_provider(builder, (device, captures), threads),
    }
}

/// Adds the provider of `device` to a session that computes with `threads` threads.
fn add_provider(builder: SessionBuilder, (device, captures): (Device, bool), threads: usize) -> Result<SessionBuilder> {
    let (providers, is_built) = providers((device, captures), threads);
    if !is_built.unwrap_or(true) {
        return Err(device_error::not_built(device));
    }
    if providers.is_empty() {
        return Err(device_error::no_feature(device));
    }
    let providers: Vec<_> = providers
        .into_iter()
        .map(ExecutionProviderDispatch::error_on_failure)
        .collect();
    let add = || {
        let added = builder.with_execution_providers(providers);
        added.map_err(|error| error.to_string())
    };
    let (added, logged) = collect_errors(add);
    added.map_err(|status| device_error::explain(device, &status, &logged))
}

/// The providers of `device` in order of preference, none if this build lacks them; and whether ONNX Runtime was built
/// with the first, if that is known.
fn providers((device, captures): (Device, bool), threads: usize) -> (Vec<ExecutionProviderDispatch>, Option<bool>) {
    // `Device` has no larger indices.
    let id = |index: u32| i32::try_from(index).unwrap_or(i32::MAX);
    // TF32 has 10 bits of mantissa: the transcript would differ from NeMo's.
    let cuda = |index: u32| ep::CUDA::default().with_device_id(id(index)).with_tf32(false);
    #[cfg(not(feature = "openvino"))]
    let _ = threads;
    match device {
        Device::Cuda(index) => (
            vec![cuda(index).with_cuda_graph(captures).build()],
            ep::CUDA::is_available().ok(),
        ),
        #[cfg(feature = "tensorrt")]
        Device::TensorRt(index) => {
            let tensorrt = ep::TensorRT::default().with_device_id(id(index));
            (
                vec![tensorrt.build(), cuda(index).build()],
                ep::TensorRT::is_available().ok(),
            )
        }
        #[cfg(feature = "openvino")]
        Device::OpenVino(device) => (
            vec![openvino(device, threads).build()],
            ep::OpenVINO::is_available().ok(),
        ),
        #[cfg(feature = "coreml")]
        Device::CoreMl => (vec![ep::CoreML::default().build()], ep::CoreML::is_available().ok()),
        #[cfg(feature = "directml")]
        Device::DirectMl(index) => {
            let directml = ep::DirectML::default().with_device_id(id(index));
            (vec![directml.build()], ep::DirectML::is_available().ok())
        }
        _ => (Vec::new(), None),
    }
}

#[cfg(feature = "openvino")]
fn openvino(device: OpenVinoDevice, threads: usize) -> ep::OpenVINO {
    let provider = ep::OpenVINO::default();
    match device {
        // OpenVINO's own choice would be bfloat16 on processors that have it (its inference_precision hint).
        OpenVinoDevice::Cpu => provider
            .with_device_type("CPU")
            .with_precision("FP32")
            .with_num_threads(threads),
        // In the precision of the graph.
        OpenVinoDevice::Gpu(index) => provider
            .with_device_type(format!("GPU.{index}"))
            .with_precision("ACCURACY"),
        OpenVinoDevice::Npu => provider.with_device_type("NPU").with_precision("ACCURACY"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error::Error, model::Options};

    fn options(device: Device) -> Options {
        Options {
            device,
            ..Default::default()
        }
    }

    #[test]
    fn plain_runtime_has_only_the_cpu() {
        for device in [Device::Auto, Device::Cpu] {
            assert_eq!(device_of(&options(device)).ok(), Some(Device::Cpu));
        }
        for (name, package) in [
            ("cuda", "onnxruntime-gpu"),
            ("cuda:1", "onnxruntime-gpu"),
            ("tensorrt", "onnxruntime-gpu"),
            ("openvino", "onnxruntime-openvino"),
            ("openvino:gpu.1", "onnxruntime-openvino"),
            ("coreml", "CoreML"),
            ("directml", "onnxruntime-directml"),
        ] {
            let device = name.parse().map_err(Error::from);
            let error = device.and_then(|device| device_of(&options(device)));
            let error = error.map_err(|error| (matches!(error, Error::Device { .. }), error.to_string()));
            let Err((is_device, message)) = error else {
                panic!("{name} is available");
            };
            assert!(is_device, "{message}");
            for part in [
                &format!("device \"{name}\" is not available: "),
                "built without",
                package,
                "device=cpu",
            ] {
                assert!(message.contains(part), "\"{part}\" is not in: {message}");
            }
        }
    }
}

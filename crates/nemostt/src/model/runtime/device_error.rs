// SPDX-License-Identifier: MIT OR Apache-2.0

//! Why a device cannot be used, and the cure.
//!
//! ONNX Runtime's status only says that a provider's library could not be loaded, or that the provider could not be created.
//! The reason is in its log, in sentences that have been the same from release 1.18 to 1.31.

use crate::{
    device::{Device, OpenVinoDevice},
    error::Error,
};

/// The name of the provider, and how to get an ONNX Runtime that has it.
fn provider(device: Device) -> (&'static str, &'static str) {
    match device {
        Device::Auto | Device::Cpu => ("the CPU", "Install ONNX Runtime"),
        Device::Cuda(_) => (
            "CUDA",
            "Install one with it (PyPI: onnxruntime-gpu) and set ORT_DYLIB_PATH to its libonnxruntime.so",
        ),
        Device::TensorRt(_) => (
            "TensorRT",
            "Install one with it (PyPI: onnxruntime-gpu) and set ORT_DYLIB_PATH to its libonnxruntime.so",
        ),
        Device::OpenVino(_) => (
            "OpenVINO",
            "Install one with it (PyPI: onnxruntime-openvino) and set ORT_DYLIB_PATH to its libonnxruntime.so",
        ),
        Device::CoreMl => ("CoreML", "Use ONNX Runtime's build for macOS, which has CoreML"),
        Device::DirectMl(_) => (
            "DirectML",
            "Install one with it (PyPI: onnxruntime-directml, on Windows) and set ORT_DYLIB_PATH to its onnxruntime.dll",
        ),
    }
}

/// ONNX Runtime was built without the provider of `device`.
pub(super) fn not_built(device: Device) -> Error {
    let (provider, cure) = provider(device);
    Error::Device {
        device,
        reason: format!("this ONNX Runtime was built without {provider}"),
        cure: cure.into(),
    }
}

/// This crate was built without the provider of `device`.
pub(super) fn no_feature(device: Device) -> Error {
    let (provider, _) = provider(device);
    let feature = provider.to_lowercase();
    Error::Device {
        device,
        reason: format!("nemostt was built without {provider}"),
        cure: format!("Build it with the cargo feature {feature}"),
    }
}

/// The provider of `device` could not be created: `status` is ONNX Runtime's error, `logged` the errors in its log.
pub(super) fn explain(device: Device, status: &str, logged: &[String]) -> Error {
    let all = || logged.iter().map(String::as_str).chain([status]);
    let (reason, cure) = all()
        .find_map(|line| missing_library(device, line))
        .or_else(|| all().find_map(|line| missing_hardware(device, line)))
        .unwrap_or_else(|| {
            let line = all().next().unwrap_or(status);
            let (provider, _) = provider(device);
            let cure = format!(
                "Check what {provider} needs, and that ONNX Runtime was built for the version that is installed"
            );
            (message(line).into(), cure)
        });
    Error::Device { device, reason, cure }
}

/// The reason and the cure if `line` says that a library cannot be loaded.
fn missing_library(device: Device, line: &str) -> Option<(String, String)> {
    let (_, after) = line.split_once("Failed to load library ")?;
    let (library, error) = after.split_once(" with error: ")?;
    let library = file_name(library);
    let error = error.trim();
    // What dlopen says of a file that it does not find: see `_dl_signal_error` in glibc, and musl's `dlopen`.
    let missing = error
        .split_once(": cannot open shared object file")
        .map(|(missing, _)| file_name(missing));
    match missing {
        Some(missing) if missing == library => Some((
            format!("{library} is missing"),
            "Put it into the directory of ONNX Runtime's library".into(),
        )),
        Some(missing) => Some((
            format!("{missing} is missing, which {library} needs"),
            install(device, missing),
        )),
        None => Some((
            format!("{library} cannot be loaded: {error}"),
            "Install the versions that this ONNX Runtime was built for".into(),
        )),
    }
}

/// How to get `library`, which a provider needs.
fn install(device: Device, library: &str) -> String {
    let (name, version) = match library.split_once(".so.") {
        Some((name, version)) => (name, version.split('.').next().unwrap_or(version)),
        None => (library, ""),
    };
    let what = match name {
        _ if name.starts_with("libcudnn") => format!("cuDNN {version} (PyPI: nvidia-cudnn-cu13 or -cu12)"),
        // Of the parts of CUDA, these have its version.
        "libcudart" | "libcublas" | "libcublasLt" | "libnvrtc" => {
            format!("CUDA {version} (its toolkit, or PyPI: nvidia-cublas, nvidia-cuda-runtime and others)")
        }
        "libcufft" | "libcurand" | "libnvJitLink" | "libcusparse" | "libcusolver" => {
            "the CUDA toolkit that this ONNX Runtime was built for".into()
        }
        "libcuda" => "NVIDIA's driver".into(),
        _ if name.starts_with("libnvinfer") || name.starts_with("libnvonnxparser") => {
            format!("TensorRT {version} (PyPI: tensorrt)")
        }
        _ if matches!(device, Device::OpenVino(_)) => {
            return "Put it into the directory of ONNX Runtime's library, where PyPI's onnxruntime-openvino has it"
                .into();
        }
        _ => library.into(),
    };
    format!("Install {what}, and name its directory in LD_LIBRARY_PATH if it is not in the loader's path")
}

/// The reason and the cure if `line` says that there is no such device.
fn missing_hardware(device: Device, line: &str) -> Option<(String, String)> {
    let says = |parts: &[&str]| parts.iter().any(|part| line.contains(part));
    match device {
        Device::Cuda(_) | Device::TensorRt(_) => {
            // Texts of `cudaGetErrorString`.
            if says(&["invalid device ordinal", "Invalid device id", "invalid device id"]) {
                let cure =
                    "List the GPUs with `nvidia-smi -L`; the first one is 0, and CUDA_VISIBLE_DEVICES may hide some";
                return Some(("there is no GPU of this index".into(), cure.into()));
            }
            if says(&[
                "no CUDA-capable device",
                "driver version is insufficient",
                "CUDA driver",
            ]) {
                let cure =
                    "Check with `nvidia-smi` that NVIDIA's driver sees the GPU and supports this version of CUDA";
                return Some((message(line).into(), cure.into()));
            }
            None
        }
        Device::OpenVino(which) => {
            says(&["is not available", "Device with", "Invalid device_type"]).then_some(())?;
            let (reason, cure) = match which {
                OpenVinoDevice::Cpu => (
                    "OpenVINO does not find its CPU plugin",
                    "Put its libraries beside ONNX Runtime's",
                ),
                OpenVinoDevice::Gpu(_) => (
                    "OpenVINO does not find this GPU",
                    "Install Intel's OpenCL driver (intel-opencl-icd), use device=openvino (OpenVINO on the CPU)",
                ),
                OpenVinoDevice::Npu => (
                    "OpenVINO does not find an NPU",
                    "Install Intel's NPU driver, use device=openvino (OpenVINO on the CPU)",
                ),
            };
            Some((reason.into(), cure.into()))
        }
        _ => None,
    }
}

/// The part of a line that is for users: without source file, function and status.
fn message(line: &str) -> &str {
    let line = line.lines().next().unwrap_or_default().trim();
    // "[ONNXRuntimeError] : 1 : FAIL : …"
    if let Some((_, after)) = line.split_once("[ONNXRuntimeError] : ") {
        return after.splitn(3, " : ").nth(2).unwrap_or(after);
    }
    // "/…/file.cc:141 std::string function(arguments) …"
    match line.strip_prefix('/').and_then(|_| line.split_once(") ")) {
        Some((_, after)) => after,
        None => line,
    }
}

/// The file name in `path`.
fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

#[cfg(test)]
mod tests;

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Devices, and their names.

use std::{
    fmt::{self, Display},
    str::FromStr,
};

/// The device that the graphs run on. All but [`Cpu`](Self::Cpu) need an ONNX Runtime that was built for them.
///
/// Parsed from and displayed as `auto`, `cpu`, `cuda`, `cuda:1`, `tensorrt`, `openvino`, `openvino:gpu`, `openvino:gpu.1`,
/// `openvino:npu`, `coreml` or `directml`; devices that have an index take it after a colon, and are the first ones without.
///
/// ```
/// # fn main() -> nemostt::Result<()> {
/// use nemostt::Device;
///
/// assert_eq!("cuda:1".parse::<Device>()?, Device::Cuda(1));
/// assert_eq!(Device::Cuda(0).to_string(), "cuda");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Device {
    /// CUDA if ONNX Runtime supports it and there is a GPU, else the CPU. If the GPU fails, then or later, it is
    /// the CPU, too.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this index.
    Cuda(u32),
    /// TensorRT on the CUDA device of this index. What TensorRT does not support runs with CUDA. Not tested on a GPU.
    TensorRt(u32),
    /// OpenVINO.
    OpenVino(OpenVinoDevice),
    /// Apple's CoreML. Not tested on a Mac.
    CoreMl,
    /// DirectML on the adapter of this index. Not tested on Windows.
    DirectMl(u32),
}

/// What OpenVINO runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OpenVinoDevice {
    /// The CPU, in float32.
    #[default]
    Cpu,
    /// Intel's GPU of this index. Not tested on one.
    Gpu(u32),
    /// Intel's NPU. Not tested on one.
    Npu,
}

/// There is no device of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "device \"{requested}\" is unknown: expected auto, cpu, cuda, tensorrt, openvino, openvino:gpu, openvino:npu, coreml or \
     directml; cuda:1, tensorrt:1, openvino:gpu.1 or directml:1 is the second of its kind"
)]
pub struct UnknownDevice {
    /// The requested name.
    pub requested: String,
}

impl FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(name: &str) -> Result<Self, UnknownDevice> {
        let (provider, which) = match name.split_once(':') {
            Some((provider, which)) => (provider, Some(which)),
            None => (name, None),
        };
        let index = || which.map_or(Some(0), parse_index);
        let device = match provider {
            "auto" if which.is_none() => Some(Self::Auto),
            "cpu" if which.is_none() => Some(Self::Cpu),
            "coreml" if which.is_none() => Some(Self::CoreMl),
            "cuda" => index().map(Self::Cuda),
            "tensorrt" => index().map(Self::TensorRt),
            "directml" => index().map(Self::DirectMl),
            "openvino" => openvino(which.unwrap_or("cpu")).map(Self::OpenVino),
            _ => None,
        };
        device.ok_or_else(|| UnknownDevice { requested: name.into() })
    }
}

/// A decimal number that ONNX Runtime, which has signed indices, accepts.
fn parse_index(index: &str) -> Option<u32> {
    let is_number = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
    let index = index.parse().ok().filter(|_| is_number)?;
    i32::try_from(index).is_ok().then_some(index)
}

fn openvino(which: &str) -> Option<OpenVinoDevice> {
    match which {
        "cpu" => Some(OpenVinoDevice::Cpu),
        "gpu" => Some(OpenVinoDevice::Gpu(0)),
        "npu" => Some(OpenVinoDevice::Npu),
        _ => which
            .strip_prefix("gpu.")
            .and_then(parse_index)
            .map(OpenVinoDevice::Gpu),
    }
}

impl Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::TensorRt(0) => f.write_str("tensorrt"),
            Self::TensorRt(index) => write!(f, "tensorrt:{index}"),
            Self::OpenVino(OpenVinoDevice::Cpu) => f.write_str("openvino"),
            Self::OpenVino(OpenVinoDevice::Gpu(0)) => f.write_str("openvino:gpu"),
            Self::OpenVino(OpenVinoDevice::Gpu(index)) => write!(f, "openvino:gpu.{index}"),
            Self::OpenVino(OpenVinoDevice::Npu) => f.write_str("openvino:npu"),
            Self::CoreMl => f.write_str("coreml"),
            Self::DirectMl(0) => f.write_str("directml"),
            Self::DirectMl(index) => write!(f, "directml:{index}"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is how a test fails
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_and_displayed() {
        use Device::{Auto, CoreMl, Cpu, Cuda, DirectMl, OpenVino, TensorRt};
        for (name, device) in [
            ("auto", Auto),
            ("cpu", Cpu),
            ("cuda", Cuda(0)),
            ("cuda:1", Cuda(1)),
            ("cuda:12", Cuda(12)),
            ("tensorrt", TensorRt(0)),
            ("tensorrt:3", TensorRt(3)),
            ("openvino", OpenVino(OpenVinoDevice::Cpu)),
            ("openvino:gpu", OpenVino(OpenVinoDevice::Gpu(0))),
            ("openvino:gpu.1", OpenVino(OpenVinoDevice::Gpu(1))),
            ("openvino:npu", OpenVino(OpenVinoDevice::Npu)),
            ("coreml", CoreMl),
            ("directml", DirectMl(0)),
            ("directml:2", DirectMl(2)),
        ] {
            assert_eq!(name.parse::<Device>().unwrap(), device);
            assert_eq!(device.to_string(), name);
        }
        // Other spellings.
        assert_eq!("cuda:0".parse::<Device>().unwrap(), Cuda(0));
        assert_eq!("openvino:cpu".parse::<Device>().unwrap(), OpenVino(OpenVinoDevice::Cpu));
    }

    #[test]
    fn unknown_names_are_rejected() {
        for name in [
            "",
            "gpu",
            "CUDA",
            "cuda:",
            "cuda:x",
            "cuda:-1",
            "cuda:+1",
            "cuda: 1",
            "cuda:2147483648",
            "cuda:99999999999",
            "cpu:0",
            "auto:1",
            "coreml:0",
            "openvino:",
            "openvino:0",
            "openvino:gpu.",
            "openvino:npu.1",
            "directml:a",
            "cuda:1:2",
        ] {
            let error = name.parse::<Device>().unwrap_err().to_string();
            assert!(error.contains(&format!("device \"{name}\"")), "{error}");
            assert!(error.contains("cuda:1"), "{error}");
        }
    }
}

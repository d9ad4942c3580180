// SPDX-License-Identifier: MIT OR Apache-2.0

use super::*;

fn explained(device: Device, status: &str, logged: &[&str]) -> String {
    let logged: Vec<String> = logged.iter().map(|&line| line.into()).collect();
    explain(device, status, &logged).to_string()
}

fn assert_explained(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "\"{part}\" is not in: {message}");
    }
    for noise in ["onnxruntime_src", "ONNXRuntimeError", "provider_bridge", "/capi/"] {
        assert!(!message.contains(noise), "\"{noise}\" is in: {message}");
    }
}

// What ONNX Runtime 1.31.1 of PyPI's onnxruntime-gpu, and 1.24.1 of its onnxruntime-openvino, log on a machine without
// GPU and CUDA.
const NO_CUDA: &str = "/onnxruntime_src/onnxruntime/core/session/provider_bridge_ort.cc:2043 onnxruntime::Provider& \
    onnxruntime::ProviderLibrary::Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load library \
    /opt/onnxruntime/capi/libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open shared object file: \
    No such file or directory\n";
const NO_TENSORRT: &str = "/onnxruntime_src/onnxruntime/core/session/provider_bridge_ort.cc:2043 onnxruntime::Provider& \
    onnxruntime::ProviderLibrary::Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load library \
    /opt/onnxruntime/capi/libonnxruntime_providers_tensorrt.so with error: libnvinfer.so.10: cannot open shared object \
    file: No such file or directory\n";
const NO_INTEL_GPU: &str = "/onnxruntime/onnxruntime/core/providers/openvino/openvino_provider_factory.cc:141 std::string \
    onnxruntime::openvino_ep::ParseDeviceType(std::shared_ptr<OVCore>, const onnxruntime::ProviderOptions&) [ERROR] \
    [OpenVINO] Device GPU is not available\n";
/// The status that belongs to them.
const NOT_LOADED: &str = "OrtSessionOptionsAppendExecutionProvider_Cuda: Failed to load shared library";

#[test]
fn missing_library_is_named_with_its_cure() {
    let cuda = explained(Device::Cuda(0), NOT_LOADED, &[NO_CUDA]);
    assert_explained(
        &cuda,
        &[
            "device \"cuda\" is not available: libcublasLt.so.13 is missing, which libonnxruntime_providers_cuda.so needs",
            "Install CUDA 13 (",
            "LD_LIBRARY_PATH",
            "device=cpu",
        ],
    );
    let cudnn = explained(
        Device::Cuda(1),
        NOT_LOADED,
        &[&NO_CUDA.replace("libcublasLt.so.13", "libcudnn.so.9")],
    );
    assert_explained(
        &cudnn,
        &["device \"cuda:1\"", "libcudnn.so.9 is missing", "Install cuDNN 9 ("],
    );
    let tensorrt = explained(Device::TensorRt(0), NOT_LOADED, &[NO_TENSORRT]);
    assert_explained(&tensorrt, &["libnvinfer.so.10 is missing", "Install TensorRT 10 ("]);
    let own = NO_CUDA.replace(
        "libcublasLt.so.13",
        "/opt/onnxruntime/capi/libonnxruntime_providers_cuda.so",
    );
    let own = explained(Device::Cuda(0), NOT_LOADED, &[&own]);
    assert_explained(
        &own,
        &[
            "available: libonnxruntime_providers_cuda.so is missing",
            "directory of ONNX Runtime's library",
        ],
    );
    let tbb = NO_CUDA.replace("libcublasLt.so.13", "libtbb.so.12");
    let tbb = explained(Device::OpenVino(OpenVinoDevice::Cpu), NOT_LOADED, &[&tbb]);
    assert_explained(&tbb, &["libtbb.so.12 is missing", "onnxruntime-openvino has it"]);
}

#[test]
fn other_linker_errors_are_quoted() {
    let line = NO_CUDA.replace(
        "libcublasLt.so.13: cannot open shared object file: No such file or directory",
        "/lib/libcudart.so.13: version `libcudart.so.13' not found",
    );
    assert_explained(
        &explained(Device::Cuda(0), NOT_LOADED, &[&line]),
        &["libonnxruntime_providers_cuda.so cannot be loaded: /lib/libcudart.so.13: version"],
    );
}

#[test]
fn missing_hardware_is_named_with_its_cure() {
    let gpu = Device::OpenVino(OpenVinoDevice::Gpu(0));
    assert_explained(
        &explained(gpu, "failed", &[NO_INTEL_GPU]),
        &["device \"openvino:gpu\"", "does not find this GPU", "device=openvino"],
    );
    let failure = "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:129 std::conditional_t<THRW, void, \
        onnxruntime::common::Status> onnxruntime::CudaCall(ERRTYPE, const char*) [ONNXRuntimeError] : 1 : FAIL : CUDA \
        failure 101: invalid device ordinal ; GPU=1 ; expr=cudaSetDevice(info_.device_id);";
    assert_explained(
        &explained(Device::Cuda(7), failure, &[]),
        &["no GPU of this index", "nvidia-smi -L", "device \"cuda:7\""],
    );
    let failure = failure.replace("101: invalid device ordinal", "100: no CUDA-capable device is detected");
    assert_explained(
        &explained(Device::Cuda(0), &failure, &[]),
        &[
            "available: CUDA failure 100: no CUDA-capable device is detected",
            "`nvidia-smi`",
        ],
    );
}

#[test]
fn anything_else_is_quoted_without_its_source() {
    let line =
        "/onnxruntime_src/onnxruntime/core/x.cc:1 void f() [ONNXRuntimeError] : 1 : FAIL : something : else\nmore";
    assert_explained(
        &explained(Device::CoreMl, "status", &[line]),
        &["device \"coreml\" is not available: something : else. "],
    );
    assert_explained(&explained(Device::CoreMl, "a status", &[]), &["available: a status. "]);
}

#[test]
fn a_build_without_the_provider_names_its_feature() {
    let error = no_feature(Device::OpenVino(OpenVinoDevice::Npu)).to_string();
    assert_explained(
        &error,
        &["device \"openvino:npu\"", "built without OpenVINO", "feature openvino"],
    );
    for device in [Device::TensorRt(0), Device::CoreMl, Device::DirectMl(0)] {
        let feature = device.to_string();
        assert!(
            no_feature(device)
                .to_string()
                .contains(&format!("cargo feature {feature},"))
        );
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Build script: version strings for the plugin, and the ONNX protobuf classes.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    gst_plugin_version_helper::info();

    // The ONNX protobuf classes. `protox` is a protobuf compiler in Rust: no `protoc` to install.
    // Byte fields become `bytes::Bytes`, so that decoding a file shares its weights instead of copying them.
    println!("cargo:rerun-if-changed=src/graph/onnx.proto");
    let descriptors = protox::compile(["onnx.proto"], ["src/graph"])?;
    prost_build::Config::new()
        .bytes(["."])
        .disable_comments(["."])
        .compile_fds(descriptors)?;
    Ok(())
}

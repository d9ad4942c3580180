// SPDX-License-Identifier: MIT OR Apache-2.0

//! The element's debug categories.

use std::sync::LazyLock;

use nemostt::{LogLevel, set_runtime_logger};

pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "nemostt",
        gst::DebugColorFlags::empty(),
        Some("NeMo streaming speech to text"),
    )
});

/// ONNX Runtime's own log.
static RUNTIME_CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "nemostt-ort",
        gst::DebugColorFlags::empty(),
        Some("ONNX Runtime under nemostt"),
    )
});

/// Forwards ONNX Runtime's log to its category.
pub(super) fn forward_runtime_log() {
    set_runtime_logger(|level, line| match level {
        LogLevel::Error => gst::error!(RUNTIME_CAT, "{line}"),
        LogLevel::Warning => gst::warning!(RUNTIME_CAT, "{line}"),
        LogLevel::Info => gst::info!(RUNTIME_CAT, "{line}"),
        LogLevel::Verbose => gst::log!(RUNTIME_CAT, "{line}"),
    });
}

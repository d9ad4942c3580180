// SPDX-License-Identifier: MIT OR Apache-2.0

//! `--hls` without its plugin. With it, `tests/interop` tests it.

use super::live;
use crate::support::{
    process::complaint,
    transcribe::{ONE, clip_path},
};

#[test]
fn a_missing_plugin_is_named_before_anything_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let hls = directory.path().join("hls");
    // The source is not opened, either: it does not exist.
    for source in [clip_path(ONE), directory.path().join("missing.mp4")] {
        let output = live(&["--hls"])
            .arg(&hls)
            .arg(source)
            // Without any plugins, so that none that is installed is found.
            .env("GST_PLUGIN_PATH", "")
            .env("GST_PLUGIN_SYSTEM_PATH", directory.path())
            .env("GST_REGISTRY", directory.path().join("registry.bin"))
            .output()
            .unwrap();
        let error = complaint(&output);
        assert!(
            error.contains("hlssink3, which is missing") && error.contains("gst-plugins-rs"),
            "{error}"
        );
    }
    assert!(!hls.exists());
}

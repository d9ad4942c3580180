// SPDX-License-Identifier: MIT OR Apache-2.0

//! Build script: version strings for the plugin.

fn main() {
    gst_plugin_version_helper::info();
}

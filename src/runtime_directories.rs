// SPDX-License-Identifier: MIT OR Apache-2.0

//! Directories in which programs look for ONNX Runtime, which is installed next to the plugin rather than the program.

use std::{
    env,
    path::{Path, PathBuf},
};

/// Where `make install` and packages put the plugin, as seen from the program that runs, and where GStreamer looks for plugins
/// of users.
pub fn runtime_directories() -> Vec<PathBuf> {
    let program = env::current_exe().ok();
    let program = program.as_deref().and_then(Path::parent);
    // Debian has a directory of libraries for each architecture.
    let multiarch = format!("../lib/{}-linux-gnu/gstreamer-1.0", env::consts::ARCH);
    let plugin_directories = [
        "",
        "../share/gstreamer-1.0/plugins",
        "../lib/gstreamer-1.0",
        "../lib64/gstreamer-1.0",
        &multiarch,
    ];
    let mut directories: Vec<PathBuf> = program
        .into_iter()
        .flat_map(|dir| plugin_directories.map(|to| dir.join(to)))
        .collect();

    let named = env::var_os("GST_PLUGIN_PATH").unwrap_or_default();
    directories.extend(env::split_paths(&named).filter(|path| !path.as_os_str().is_empty()));
    let data = env::var_os("XDG_DATA_HOME")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    let data = data.or_else(|| env::home_dir().map(|home| home.join(".local/share")));
    directories.extend(data.map(|data| data.join("gstreamer-1.0/plugins")));
    directories
}

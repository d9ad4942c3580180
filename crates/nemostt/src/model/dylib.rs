// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where ONNX Runtime's library is searched.

use std::{
    iter,
    path::{Path, PathBuf},
};

/// File name of ONNX Runtime's library, without version.
const LIBRARY: &str = "libonnxruntime.so";

/// Files to try, in order of preference.
pub(super) fn candidates(directories: &[PathBuf]) -> Vec<PathBuf> {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        // If it is set, only this library is used.
        return vec![path.into()];
    }
    let mut candidates: Vec<PathBuf> = directories
        .iter()
        .flat_map(|directory| iter::once(directory.clone()).chain(private_directory(directory)))
        .flat_map(|directory| libraries_in(&directory))
        .collect();
    candidates.extend([LIBRARY.into(), format!("{LIBRARY}.1").into()]);
    candidates
}

/// Where packages put an ONNX Runtime that only nemostt uses: `/usr/lib/nemostt` for a plugin in
/// `/usr/lib/gstreamer-1.0`.
///
/// Plugins in other places have none: beside a directory such as `/tmp/plugins`, anyone could create it.
fn private_directory(plugins: &Path) -> Option<PathBuf> {
    plugins
        .ends_with("gstreamer-1.0")
        .then(|| plugins.with_file_name("nemostt"))
}

/// `libonnxruntime.so`, `libonnxruntime.so.1`, `libonnxruntime.so.1.31.1`, … in `directory`.
fn libraries_in(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let is_library = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let version = name.strip_prefix(LIBRARY);
        version.is_some_and(|v| v.is_empty() || v.starts_with('.'))
    };
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_library).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn library_next_to_the_plugin_is_found() {
        let directory = tempfile::tempdir().unwrap();
        for name in [
            "libonnxruntime.so.1.31.1",
            "libonnxruntime_providers_shared.so",
            "libother.so",
        ] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        let found = libraries_in(directory.path());
        assert_eq!(found, [directory.path().join("libonnxruntime.so.1.31.1")]);
    }

    #[test]
    fn only_a_system_plugin_directory_has_a_private_directory_beside_it() {
        let of = |plugins: &str| private_directory(Path::new(plugins));
        assert_eq!(
            of("/usr/lib/x86_64-linux-gnu/gstreamer-1.0"),
            Some("/usr/lib/x86_64-linux-gnu/nemostt".into())
        );
        assert_eq!(of("/home/user/.local/share/gstreamer-1.0/plugins"), None);
        assert_eq!(of("target/plugin"), None);
    }
}

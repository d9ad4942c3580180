// SPDX-License-Identifier: MIT OR Apache-2.0

//! Concurrent starts.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use super::{caching_options, entry, files, hits, transcribe, transcribe_uncached};
use crate::common::model_path;

/// Environment variable with the cache directory of the child processes below.
const DIRECTORY: &str = "NEMOSTT_TEST_CACHE";

fn assert_one_valid_entry(directory: &Path) {
    entry(directory);
    let options = caching_options(directory);
    let before = hits(directory);
    let model = model_path("trained");
    assert!(transcribe(&model, &options) == transcribe_uncached(&model, &options));
    assert_eq!(hits(directory), before + 1);
}

#[test]
fn threads_leave_one_valid_entry() {
    let directory = tempfile::tempdir().unwrap();
    let model = model_path("trained");
    let expected = transcribe_uncached(&model, &caching_options(directory.path()));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(transcribe(&model, &caching_options(directory.path())) == expected));
        }
    });
    assert_one_valid_entry(directory.path());
}

#[test]
#[ignore = "child process of the test below"]
fn child_process() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else {
        return;
    };
    let options = caching_options(&directory);
    for _ in 0..3 {
        assert!(transcribe(&model_path("trained"), &options) == transcribe_uncached(&model_path("trained"), &options));
        // The other process may be about to read it, or may have deleted it.
        for file in files(&directory) {
            if file.extension().is_some_and(|extension| extension == "graph") {
                let _ = std::fs::remove_file(file);
            }
        }
    }
    transcribe(&model_path("trained"), &options);
}

#[test]
fn processes_leave_one_valid_entry() {
    let directory = tempfile::tempdir().unwrap();
    let children = [(); 2].map(|()| {
        Command::new(std::env::current_exe().unwrap())
            .args(["cache::starts::child_process", "--exact", "--ignored"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    });
    for child in children {
        let output = child.wait_with_output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}");
    }
    assert_one_valid_entry(directory.path());
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Several starts at the same time.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use super::{entry, files, hits, keeping, say, say_alone};
use crate::common::model_path;

/// The cache of a process that the test below starts.
const DIRECTORY: &str = "NEMOSTT_TEST_CACHE";

fn starts_with_a_sound_entry(directory: &Path) {
    entry(directory);
    let options = keeping(directory);
    let before = hits(directory);
    let model = model_path("trained");
    assert!(say(&model, &options) == say_alone(&model, &options));
    assert_eq!(hits(directory), before + 1);
}

#[test]
fn threads_leave_one_sound_entry() {
    let directory = tempfile::tempdir().unwrap();
    let model = model_path("trained");
    let expected = say_alone(&model, &keeping(directory.path()));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(say(&model, &keeping(directory.path())) == expected));
        }
    });
    starts_with_a_sound_entry(directory.path());
}

#[test]
#[ignore = "it is the child of the test below"]
fn one_of_several_processes() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else {
        return;
    };
    let options = keeping(&directory);
    for _ in 0..3 {
        assert!(say(&model_path("trained"), &options) == say_alone(&model_path("trained"), &options));
        // The other process may be about to read it, or have deleted it.
        for file in files(&directory) {
            if file.extension().is_some_and(|extension| extension == "graph") {
                let _ = std::fs::remove_file(file);
            }
        }
    }
    say(&model_path("trained"), &options);
}

#[test]
fn processes_leave_one_sound_entry() {
    let directory = tempfile::tempdir().unwrap();
    let children = [(); 2].map(|()| {
        Command::new(std::env::current_exe().unwrap())
            .args(["cache::starts::one_of_several_processes", "--exact", "--ignored"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    });
    for child in children {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }
    starts_with_a_sound_entry(directory.path());
}

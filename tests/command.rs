// SPDX-License-Identifier: MIT OR Apache-2.0

//! The `nemostt` command as its users meet it: a process.

#![allow(clippy::unwrap_used)] // a failed unwrap is how a test fails

use std::{
    fs,
    process::{Command, Output},
};

fn nemostt(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nemostt"));
    command.env_remove("NEMOSTT_MODEL").args(arguments).output().unwrap()
}

/// What it writes when nothing fails.
fn written(output: &Output) -> &str {
    let errors = std::str::from_utf8(&output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    assert_eq!(errors, "");
    std::str::from_utf8(&output.stdout).unwrap()
}

/// The one line it ends with when something fails.
fn complaint(output: &Output) -> &str {
    let errors = std::str::from_utf8(&output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    errors.strip_prefix("nemostt: ").unwrap().trim_end()
}

#[test]
fn shells_get_completions_and_man_gets_pages() {
    for shell in ["bash", "zsh", "fish"] {
        let output = nemostt(&["completions", shell]);
        assert!(written(&output).contains("completions"), "{shell}");
    }
    assert!(written(&nemostt(&["man"])).contains(".TH nemostt 1"));

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("man");
    assert_eq!(written(&nemostt(&["man", "--dir", path.to_str().unwrap()])), "");
    for page in ["nemostt.1", "nemostt-man.1", "nemostt-completions.1"] {
        assert!(fs::read_to_string(path.join(page)).unwrap().contains(".TH"), "{page}");
    }
    let output = nemostt(&["man", "--dir", "/proc/nowhere"]);
    assert!(complaint(&output).starts_with("cannot write to /proc/nowhere"));
}

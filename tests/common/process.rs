// SPDX-License-Identifier: MIT OR Apache-2.0

//! The `nemostt` command as a process.

#![allow(dead_code)] // each test file uses its own part

use std::process::{Command, Output};

/// The command with nothing from the environment that changes what it does.
pub fn nemostt(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nemostt"));
    command.env_remove("NEMOSTT_MODEL").env("LC_ALL", "C").args(arguments);
    command
}

/// What it writes when nothing fails.
pub fn written(output: &Output) -> &str {
    let errors = std::str::from_utf8(&output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    assert_eq!(errors, "");
    std::str::from_utf8(&output.stdout).unwrap()
}

/// The one line it ends with when something fails.
pub fn complaint(output: &Output) -> &str {
    let lines = complaints(output);
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines[0]
}

/// The lines it writes when something fails.
pub fn complaints(output: &Output) -> Vec<&str> {
    let errors = std::str::from_utf8(&output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    errors
        .lines()
        .map(|line| line.strip_prefix("nemostt: ").unwrap())
        .collect()
}

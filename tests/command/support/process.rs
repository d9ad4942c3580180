// SPDX-License-Identifier: MIT OR Apache-2.0

//! The `nemostt` command as a process.

use std::process::{Command, Output};

/// The command, without environment variables that change its behavior.
pub fn nemostt(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nemostt"));
    command.env_remove("NEMOSTT_MODEL").env("LC_ALL", "C").args(arguments);
    command
}

/// Standard output of a run that must have succeeded without errors.
pub fn written(output: &Output) -> &str {
    let errors = std::str::from_utf8(&output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    assert_eq!(errors, "");
    std::str::from_utf8(&output.stdout).unwrap()
}

/// The single error line of a run that must have failed.
pub fn complaint(output: &Output) -> &str {
    let lines = complaints(output);
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines[0]
}

/// The error lines of a run that must have failed, without their prefix.
pub fn complaints(output: &Output) -> Vec<&str> {
    let errors = std::str::from_utf8(&output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    errors
        .lines()
        .map(|line| line.strip_prefix("nemostt: ").unwrap())
        .collect()
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Child processes, for tests of what a process has only once: its ONNX Runtime, log functions and tracers.
//!
//! Such a test runs itself in a child process, where [`is_child`] is true.

use std::process::{Command, Output};

const VARIABLE: &str = "NEMOSTT_CHILD";

/// Runs one test of this program in a child process. `test` is its name with its modules: `pipeline::missing_gpu`.
pub fn run_in_child(test: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(VARIABLE, "1");
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("running 1 test\n"), "there is no test {test}: {stdout}");
    output
}

pub fn is_child() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The examples, run as processes.

#![allow(clippy::unwrap_used)] // a failed unwrap is how a test fails

#[path = "../../crates/nemostt/tests/common/mod.rs"]
mod common;

use std::process::{Command, Output};

use common::{Texts, data, model_path};
use nemostt::DecoderKind;

const TRANSCRIBE: &str = env!("CARGO_BIN_EXE_transcribe");
const BUS: &str = env!("CARGO_BIN_EXE_bus");

fn run(program: &str, file: &str) -> Output {
    let mut command = Command::new(program);
    command.arg(file);
    match program {
        TRANSCRIBE => command.arg(model_path("trained")),
        _ => command.env("NEMOSTT_MODEL", model_path("trained")),
    };
    command.output().unwrap()
}

/// The words of a clip, which are in this column of each line.
fn words(program: &str, column: usize) -> String {
    let output = run(program, data("wav/u1_command.wav").to_str().unwrap());
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let words = lines.lines().map(|line| line.split_whitespace().nth(column).unwrap());
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn words_are_those_of_nemo() {
    let texts = Texts::open();
    let expected = texts.get("trained", "u1_command", 13, DecoderKind::Rnnt);
    assert_eq!(words(TRANSCRIBE, 3), expected);
    assert_eq!(words(BUS, 1), expected);
}

#[test]
fn unreadable_files_are_reported() {
    for (program, error) in [(TRANSCRIBE, "cannot read /no/such.wav"), (BUS, "bus: source: ")] {
        let output = run(program, "/no/such.wav");
        assert!(!output.status.success(), "{output:?}");
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.contains(error), "{errors}");
    }
}

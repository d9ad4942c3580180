// SPDX-License-Identifier: MIT OR Apache-2.0

//! `examples/transcribe.rs`, run as a process.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use nemostt::DecoderKind;

use crate::common::{Texts, data, model_path};

/// The example's path. `cargo test` builds it in `target/<profile>/examples`; Cargo has no environment variable for it.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let program = profile.join("examples/transcribe");
    assert!(
        program.exists(),
        "{} is missing: cargo test --test command does not build examples; run cargo build --example transcribe first",
        program.display()
    );
    program
}

fn transcribe(file: &Path) -> Output {
    Command::new(program())
        .arg(file)
        .arg(model_path("trained"))
        .output()
        .unwrap()
}

#[test]
fn prints_the_words_of_nemo() {
    let output = transcribe(&data("wav/u1_command.wav"));
    let text = String::from_utf8(output.stdout).unwrap();
    let words: Vec<&str> = text.lines().map(|line| line.split(' ').next_back().unwrap()).collect();
    assert_eq!(
        words.join(" "),
        Texts::open().get("trained", "u1_command", 13, DecoderKind::Rnnt)
    );
}

#[test]
fn reports_an_unreadable_file() {
    let output = transcribe(Path::new("/no/such.wav"));
    assert!(!output.status.success());
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("cannot read /no/such.wav")
    );
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The `nemostt` command as its users meet it: a process.

use std::{fs, process::Output};

use crate::support::process::{self, complaint, written};

fn nemostt(arguments: &[&str]) -> Output {
    process::nemostt(arguments).output().unwrap()
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

// SPDX-License-Identifier: MIT OR Apache-2.0

//! `nemostt transcribe` as a process, and its expected output.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use nemostt::DecoderKind;

use super::process::nemostt;
use crate::common::{Texts, data, model_path};

pub const CLIP: &str = "u5_eight_sentences";

/// The subcommand, on one thread.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = nemostt(&["transcribe", "--threads=1"]);
    command.args(arguments);
    command
}

/// Transcribes files with the demo model, loaded from its directory.
pub fn transcribe_all<P: AsRef<Path>>(arguments: &[&str], files: &[P]) -> Output {
    let files = files.iter().map(AsRef::as_ref);
    command(arguments)
        .arg("--model")
        .arg(model_path("trained"))
        .args(files)
        .output()
        .unwrap()
}

pub fn transcribe(arguments: &[&str], file: &Path) -> Output {
    transcribe_all(arguments, &[file])
}

pub fn wav() -> PathBuf {
    data(&format!("wav/{CLIP}.wav"))
}

pub fn clip_path(clip: &str) -> PathBuf {
    data(&format!("wav/{clip}.wav"))
}

pub fn nemo(clip: &str) -> String {
    Texts::open().get("trained", clip, 13, DecoderKind::Rnnt).into()
}

pub fn nemo_text() -> String {
    nemo(CLIP)
}

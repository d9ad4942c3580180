// SPDX-License-Identifier: MIT OR Apache-2.0

//! `nemostt transcribe` as a process, and its expected output.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use nemostt::DecoderKind;

use super::process::nemostt;
use crate::common::{Texts, data, model_path};

pub const CLIP: &str = "u5_eight_sentences";
/// Two short clips with different texts.
pub const ONE: &str = "u1_command";
pub const TWO: &str = "u2_digits";

/// The subcommand, on one thread.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = nemostt(&["transcribe", "--threads=1"]);
    command.args(arguments);
    command
}

/// The subcommand with the demo model, loaded from its directory.
pub fn with_model(arguments: &[&str]) -> Command {
    let mut command = command(arguments);
    command.arg("--model").arg(model_path("trained"));
    command
}

/// Transcribes files with that model.
pub fn transcribe_all<P: AsRef<Path>>(arguments: &[&str], files: &[P]) -> Output {
    let files = files.iter().map(AsRef::as_ref);
    with_model(arguments).args(files).output().unwrap()
}

pub fn transcribe(arguments: &[&str], file: &Path) -> Output {
    transcribe_all(arguments, &[file])
}

/// Starts to transcribe standard input; all streams are pipes.
pub fn start(arguments: &[&str]) -> Child {
    let mut command = with_model(arguments);
    command
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Transcribes `bytes` from standard input.
pub fn pipe(arguments: &[&str], bytes: &[u8]) -> Output {
    let mut child = start(arguments);
    // The command may end before it has read all of it.
    let _ = child.stdin.take().unwrap().write_all(bytes);
    child.wait_with_output().unwrap()
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

/// The output for a clip: its text and a newline.
pub fn line(clip: &str) -> String {
    nemo(clip) + "\n"
}

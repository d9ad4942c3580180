// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sources, and captions on standard output.

use std::{
    fs,
    process::Command,
    str::from_utf8,
    time::{Duration, Instant},
};

use super::{Running, live, wait_until};
use crate::support::{
    process::{complaint, written},
    transcribe::{ONE, TWO, clip_path, line, nemo},
};

/// Keeps `autoaudiosrc` from the devices of this machine.
const NO_DEVICES: &str =
    "pulsesrc:NONE,alsasrc:NONE,pipewiresrc:NONE,jackaudiosrc:NONE,openalsrc:NONE,osssrc:NONE,oss4src:NONE";

#[test]
fn a_file_is_captioned_in_real_time() {
    let begun = Instant::now();
    let output = live(&[]).arg(clip_path(ONE)).output().unwrap();
    assert_eq!(written(&output), line(ONE));
    // It has 1.77 s of sound.
    assert!(begun.elapsed() > Duration::from_millis(1_700), "{:?}", begun.elapsed());
}

#[test]
fn a_beam_and_a_language_model_are_those_of_the_element() {
    let beam = ["--decoding-method=beam", "--beam-size=8"];
    assert_eq!(written(&live(&beam).arg(clip_path(ONE)).output().unwrap()), line(ONE));
    let output = live(&beam)
        .args(["--language-model=/no/such/model.arpa", "--language-model-weight=0.5"])
        .arg(clip_path(ONE))
        .output()
        .unwrap();
    assert!(complaint(&output).contains("/no/such/model.arpa"));
}

#[test]
fn ctrl_c_writes_what_was_said() {
    let mut running = Running::start(&["-"]);
    // Twice, so that some is left in the pipe when all is written.
    running.say(TWO);
    running.say(TWO);
    running.signal("-INT");
    let output = running.finish();
    let text = written(&output);
    assert!(
        line(TWO).starts_with(text.split(" eight").next().unwrap().trim_end()) && text.len() > 10,
        "{text}"
    );
    assert!(text.ends_with('\n'), "{text:?}");
}

#[test]
fn a_closed_output_ends_the_session_unless_there_is_another() {
    let mut running = Running::start(&["-"]);
    drop(running.child.stdout.take());
    running.say(ONE);
    // Standard input stays open: only the closed pipe ends it.
    let mut input = running.stdin.take();
    assert!(running.finish().status.success());
    drop(input.take());

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.jsonl");
    let mut running = Running::start(&["-", "--record", path.to_str().unwrap()]);
    drop(running.child.stdout.take());
    running.say(ONE);
    wait_until(|| fs::metadata(&path).is_ok_and(|about| about.len() > 0));
    running.say(TWO);
    assert!(running.finish().status.success());
    // Nothing is lost, not even the caption with which it was noticed.
    let texts = fs::read_to_string(&path).unwrap();
    assert!(texts.contains(&nemo(ONE)) && texts.lines().count() > 1, "{texts}");
}

#[test]
fn an_output_that_is_not_read_delays_neither_recording_nor_ctrl_c() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.jsonl");
    let command = live(&["-", "--record", path.to_str().unwrap()]);
    // Another process has filled the pipe, as a terminal that was stopped is full.
    let mut full = Command::new("sh");
    full.args(["-c", "head -c 1000000 /dev/zero 2>/dev/null & exec \"$@\"", "sh"]);
    full.arg(command.get_program()).args(command.get_args());
    full.env_remove("NEMOSTT_MODEL").env("LC_ALL", "C");
    let mut running = Running::spawn(full);
    let unread = running.child.stdout.take();
    running.say(TWO);
    wait_until(|| fs::read_to_string(&path).is_ok_and(|text| text.contains("seven")));
    running.signal("-INT");
    let mut input = running.stdin.take();
    assert!(running.finish().status.success());
    drop((input.take(), unread));
}

#[test]
fn a_machine_without_microphone_is_told() {
    let output = live(&["mic"])
        .env("GST_PLUGIN_FEATURE_RANK", NO_DEVICES)
        .output()
        .unwrap();
    let complaint = complaint(&output);
    assert!(complaint.contains("no microphone was found"), "{complaint}");
    let output = live(&["mic:no such name"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no microphone no such name"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn sources_that_cannot_be_opened_are_told() {
    let refused = |source: &str, expected: &str| {
        let output = live(&[source]).output().unwrap();
        assert!(complaint(&output).contains(expected), "{}", complaint(&output));
        assert_eq!(from_utf8(&output.stdout), Ok(""));
    };
    refused("/no/such/file.wav", "/no/such/file.wav");
    refused("nonsense://a/b", "GStreamer has no source for nonsense://");
    refused(env!("CARGO_MANIFEST_DIR"), "is a directory");
    refused(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "Cargo.toml");
    refused("--lookahead=100", "lookahead 100 ms is not possible");
    refused("--hotwords-file=/no/such/list", "/no/such/list");
    refused("--cue-lines=3", "add --record");
    refused("--beam-size=8", "add --decoding-method beam");
    refused("--record=a.txt", ".vtt, .srt or .jsonl");
}

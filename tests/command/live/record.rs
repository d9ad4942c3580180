// SPDX-License-Identifier: MIT OR Apache-2.0

//! `--record`.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    str::from_utf8,
};

use super::{Running, live, wait_until};
use crate::support::{
    process::{complaint, written},
    transcribe::{ONE, TWO, clip_path, line, nemo},
};

/// Of a WebVTT file that was begun by this program.
const HEADER: &str = "WEBVTT - recorded by nemostt";

fn contents(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Captions a file into `record`.
fn caption(clip: &str, record: &Path) {
    let output = live(&["--record"]).arg(record).arg(clip_path(clip)).output().unwrap();
    assert_eq!(written(&output), line(clip));
}

/// Lines with text, which are all but numbers, times and empty ones.
fn texts(contents: &str) -> String {
    let is_text = |line: &&str| !line.is_empty() && !line.contains("-->") && line.parse::<u64>().is_err();
    contents.lines().filter(is_text).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_recording_that_was_killed_is_continued() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.vtt");
    let mut running = Running::start(&["-", "--record", path.to_str().unwrap()]);
    running.say(ONE);
    // The pause after it ends the utterance: there is no end of the source.
    let last = nemo(ONE);
    let last = last.rsplit(' ').next().unwrap();
    wait_until(|| contents(&path).contains(last));
    let other = live(&["--record"]).arg(&path).arg(clip_path(ONE)).output().unwrap();
    assert!(
        complaint(&other).contains("by another process"),
        "{}",
        complaint(&other)
    );
    running.signal("-KILL");
    running.finish();
    let before = contents(&path);
    assert_eq!(texts(&before), format!("{HEADER} {}", nemo(ONE)));

    // As if it had been writing.
    let mut file = File::options().append(true).open(&path).unwrap();
    file.write_all(b"00:01:00.000 --> 00:01:02.000\nto").unwrap();
    drop(file);
    let output = live(&["--record"]).arg(&path).arg(clip_path(TWO)).output().unwrap();
    assert_eq!(
        (from_utf8(&output.stdout), output.status.code()),
        (Ok(line(TWO).as_str()), Some(0))
    );
    assert!(from_utf8(&output.stderr).unwrap().contains("a.vtt.torn"), "{output:?}");
    assert!(contents(&directory.path().join("a.vtt.torn")).ends_with("\nto\n"));
    let after = contents(&path);
    assert!(after.starts_with(&before), "{after}");
    assert_eq!(texts(&after), format!("{HEADER} {} {}", nemo(ONE), nemo(TWO)));
    let times: Vec<&str> = after
        .lines()
        .filter_map(|line| line.split_once(" --> "))
        .flat_map(|(start, end)| [start, end])
        .collect();
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn other_formats() {
    let directory = tempfile::tempdir().unwrap();
    let (srt, json) = (directory.path().join("a.srt"), directory.path().join("a.jsonl"));
    caption(ONE, &srt);
    assert!(contents(&srt).starts_with("1\n00:00:0"), "{}", contents(&srt));
    assert_eq!(texts(&contents(&srt)), nemo(ONE));
    caption(ONE, &json);
    let object: serde_json::Value = serde_json::from_str(&contents(&json)).unwrap();
    assert_eq!((&object["text"], &object["final"]), (&nemo(ONE).into(), &true.into()));
    let words = object["words"].as_array().unwrap();
    assert_eq!(words.len(), nemo(ONE).split(' ').count());
    // The times are those of the file.
    assert!(
        object["end"].as_u64().unwrap() < 1_800 && words[0]["start"] == object["start"],
        "{object}"
    );
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Recordings that are continued: after the end of a session, a crash, or another program.

use std::fs;

use super::*;
use crate::live::caption::TimedWord;

fn caption(text: &str, start: u64) -> Caption {
    let end = start + 1000;
    let word = TimedWord {
        text: text.into(),
        start,
        end,
        confidence: 1.0,
    };
    Caption {
        utterance: 0,
        text: text.into(),
        is_final: true,
        start,
        end,
        words: vec![word],
    }
}

fn record(path: &Path, captions: &[Caption]) {
    let format = Format::of(path).unwrap();
    let (mut recorder, _) = Recorder::open(path, format, CueRules::default()).unwrap();
    for caption in captions {
        assert_eq!(recorder.caption(caption), None);
    }
}

/// A file after a session, and after a second one.
fn continued(name: &str) -> [String; 2] {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    record(&path, &[caption("one", 0), caption("a & b", 5_000)]);
    let first = fs::read_to_string(&path).unwrap();
    record(&path, &[caption("two", 500)]);
    [first, fs::read_to_string(&path).unwrap()]
}

#[test]
fn vtt_is_continued() {
    let [first, second] = continued("a.vtt");
    let expected = "WEBVTT - recorded by nemostt\n\n00:00:00.000 --> 00:00:01.000\none\n\n00:00:05.000 --> 00:00:06.000\na &amp; b\n\n";
    assert_eq!(first, expected);
    assert_eq!(second, format!("{expected}00:00:06.500 --> 00:00:07.500\ntwo\n\n"));
}

#[test]
fn srt_is_continued() {
    let [first, second] = continued("a.srt");
    let expected = "1\n00:00:00,000 --> 00:00:01,000\none\n\n2\n00:00:05,000 --> 00:00:06,000\na & b\n\n";
    assert_eq!(first, expected);
    assert_eq!(second, format!("{expected}3\n00:00:06,500 --> 00:00:07,500\ntwo\n\n"));
}

#[test]
fn json_lines_are_continued() {
    let [_, second] = continued("a.jsonl");
    let ends: Vec<u64> = second
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["end"]
                .as_u64()
                .unwrap()
        })
        .collect();
    assert_eq!(ends, [1_000, 6_000, 7_500]);
}

#[test]
fn a_file_torn_anywhere_loses_one_cue_at_most() {
    for name in ["a.vtt", "a.srt", "a.jsonl"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        let captions: Vec<Caption> = (0..3).map(|n| caption(&format!("word{n}"), n * 3_000)).collect();
        record(&path, &captions);
        let whole = fs::read(&path).unwrap();
        let text = String::from_utf8(whole.clone()).unwrap();
        let ends: Vec<usize> = (0..3)
            .map(|n| text.find(&format!("word{n}")).unwrap() + "word0".len())
            .collect();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            record(&path, &[caption("last", 0)]);
            let text = fs::read_to_string(&path).unwrap();
            let complete = ends.iter().filter(|&&end| end < cut).count();
            for n in 0..3 {
                let is_there = text.contains(&format!("word{n}"));
                // A cue is complete with the end of its line.
                assert!(is_there || n >= complete.saturating_sub(1), "{name} {cut}: {text}");
            }
            assert_eq!(
                text.matches("last").count(),
                if name == "a.jsonl" { 2 } else { 1 },
                "{name} {cut}: {text}"
            );
            // It is a file that can be continued again.
            record(&path, &[caption("again", 0)]);
            assert!(!fs::read_to_string(&path).unwrap().contains("\n\n\n"), "{name} {cut}");
        }
    }
}

#[test]
fn a_cue_of_another_program_is_not_deleted() {
    let directory = tempfile::tempdir().unwrap();
    for (name, before, after) in [
        ("a.vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\none", "one\n\n"),
        ("a.srt", "1\n00:00:01,000 --> 00:00:02,000\none", "one\n\n2\n"),
        ("a.jsonl", r#"{"end":2000}"#, "}\n{"),
    ] {
        let path = directory.path().join(name);
        fs::write(&path, before).unwrap();
        record(&path, &[caption("two", 500)]);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(before) && text.contains(after), "{text}");
        let starts_later = ["00:00:02.500", "00:00:02,500", "\"start\":2500"];
        assert!(starts_later.iter().any(|time| text.contains(time)), "{text}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3, "nothing was torn");
}

#[test]
fn what_is_cut_is_kept_in_another_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.vtt");
    record(&path, &[caption("one", 0)]);
    let whole = fs::read_to_string(&path).unwrap();
    // The first line of two: in a file of this program, the empty line is missing.
    let torn = "00:00:03.000 --> 00:00:04.000\ntwo lines\n";
    fs::write(&path, format!("{whole}{torn}")).unwrap();
    let (recorder, notice) = Recorder::open(&path, Format::Vtt, CueRules::default()).unwrap();
    drop(recorder);
    assert!(notice.unwrap().contains("a.vtt.torn"));
    assert_eq!(fs::read_to_string(&path).unwrap(), whole);
    let kept = fs::read_to_string(directory.path().join("a.vtt.torn")).unwrap();
    assert_eq!(kept.trim_end(), torn.trim_end());
}

#[test]
fn a_long_file_is_continued_from_its_end() {
    let directory = tempfile::tempdir().unwrap();
    for (name, header, expected) in [("a.vtt", "WEBVTT\n\n", ""), ("a.srt", "", "\n\n60000\n")] {
        let path = directory.path().join(name);
        let cue = |n: u64| {
            let (minutes, seconds) = (n / 60 % 60, n % 60);
            let number = if name == "a.srt" {
                format!("{n}\n")
            } else {
                String::new()
            };
            let time = format!("{:02}:{minutes:02}:{seconds:02}", n / 3600);
            format!("{number}{time},000 --> {time},500\nsome words\n\n")
        };
        let cues: String = (1..60_000).map(cue).collect();
        fs::write(&path, format!("{header}{cues}")).unwrap();
        record(&path, &[caption("last", 500)]);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.len() > 2 << 20 && text.starts_with(&format!("{header}{cues}")));
        assert!(text.ends_with("last\n\n") && text[text.len() - 100..].contains(expected));
        // The last cue ends at 16:39:59.5.
        assert!(
            text[text.len() - 60..].contains("16:40:00"),
            "{}",
            &text[text.len() - 60..]
        );
    }
}

#[test]
fn absurd_numbers_are_refused_or_saturate() {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("a.jsonl", r#"{"end":18446744073709551615}"#),
        ("a.vtt", "WEBVTT\n\n00:01.000 --> 10000:00:00.001\none\n\n"),
        ("a.srt", "1\n00:00:01,000 --> 99999999999:00:00,000\none\n\n"),
    ] {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        let opened = Recorder::open(&path, Format::of(&path).unwrap(), CueRules::default());
        let error = opened.err().unwrap();
        assert!(error.contains("10,000 hours"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    let path = directory.path().join("b.srt");
    fs::write(&path, format!("{}\n00:00:01,000 --> 00:00:02,000\none\n\n", u64::MAX)).unwrap();
    record(&path, &[caption("two", 0), caption("three", 2_000)]);
    assert!(fs::read_to_string(&path).unwrap().contains("three"));
}

#[test]
fn a_file_that_is_written_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.vtt");
    let open = || Recorder::open(&path, Format::Vtt, CueRules::default());
    let first = open().unwrap();
    assert!(open().err().unwrap().contains("by another process"));
    drop(first);
    assert!(open().is_ok());
}

#[test]
fn other_contents_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["a.vtt", "a.srt", "a.jsonl"] {
        let path = directory.path().join(name);
        fs::write(&path, "Dear diary,\n\nnothing happened.\n").unwrap();
        let error = Recorder::open(&path, Format::of(&path).unwrap(), CueRules::default())
            .err()
            .unwrap();
        assert!(error.contains("cannot be continued"), "{error}");
        assert!(fs::read_to_string(&path).unwrap().starts_with("Dear diary"));
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! `--metrics-file` of `nemostt transcribe` and `nemostt bench`.

use std::{fs, path::Path};

use crate::support::{
    process::{complaint, nemostt, written},
    transcribe::{CLIP, ONE, TWO, clip_path, command, nemo_text, with_model},
};

/// The value of a sample, of the only engine.
fn value(text: &str, name: &str) -> f64 {
    let samples = text.lines().filter_map(|line| line.strip_prefix(name));
    let values: Vec<&str> = samples
        .filter(|rest| rest.starts_with('{'))
        .map(|rest| rest.rsplit_once(' ').unwrap().1)
        .collect();
    assert_eq!(values.len(), 1, "{name}: {text}");
    values[0].parse().unwrap()
}

fn read(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'), "{text}");
    // Only the file itself is left.
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    text
}

#[test]
fn transcribe_writes_what_it_has_done() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nemostt.prom");
    let mut command = with_model(&[]);
    command.arg("--metrics-file").arg(&path).arg(clip_path(CLIP));
    let output = command.output().unwrap();
    assert_eq!(written(&output), format!("{}\n", nemo_text()));
    let text = read(&path);
    assert_eq!(
        value(&text, "nemostt_words_total"),
        nemo_text().split(' ').count() as f64
    );
    let length = hound::WavReader::open(clip_path(CLIP)).unwrap().duration();
    assert_eq!(
        value(&text, "nemostt_audio_seconds_total"),
        f64::from(length) / 16_000.0
    );
    // It is written after the stream has ended. The first one warmed the model up.
    assert_eq!(value(&text, "nemostt_streams"), 0.0);
    assert_eq!(value(&text, "nemostt_streams_started_total"), 1.0);
    // Steps are those of 13 frames of lookahead and one more, of 80 ms each, and that of the warm-up.
    let chunks = (f64::from(length) / 16_000.0 / 1.12).floor();
    let steps = value(&text, "nemostt_batch_size_sum");
    assert!((chunks + 1.0..=chunks + 3.0).contains(&steps), "{steps} of {chunks}");
    assert_eq!(
        value(&text, "nemostt_batch_duration_seconds_count"),
        value(&text, "nemostt_batch_size_count")
    );
    assert!(value(&text, "nemostt_batch_duration_seconds_sum") > 0.0);
    assert!(
        text.contains(r#"device="cpu",precision="fp32",lookahead_ms="1040"}"#),
        "{text}"
    );
}

#[test]
fn files_in_parallel_are_counted_together() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nemostt.prom");
    // The second line: models that do not compute streams together are loaded once per worker.
    for arguments in [&[][..], &["--precision=int8"]] {
        let mut command = with_model(&["--jobs=2", "--metrics-interval=1"]);
        command.arg("--metrics-file").arg(&path).args(arguments);
        let output = command.arg(clip_path(ONE)).arg(clip_path(TWO)).output().unwrap();
        written(&output);
        let text = read(&path);
        assert_eq!(value(&text, "nemostt_streams_started_total"), 2.0);
        let length = |clip| f64::from(hound::WavReader::open(clip_path(clip)).unwrap().duration()) / 16_000.0;
        assert!((value(&text, "nemostt_audio_seconds_total") - length(ONE) - length(TWO)).abs() < 1e-6);
        assert!(value(&text, "nemostt_batch_duration_seconds_count") > 4.0);
    }
}

#[test]
fn bench_writes_its_streams() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nemostt.prom");
    let mut command = nemostt(&[
        "bench",
        "--streams=2",
        "--seconds=2",
        "--lookahead=80",
        "--json",
        "--metrics-file",
    ]);
    let output = command.arg(&path).output().unwrap();
    let report: serde_json::Value = serde_json::from_str(written(&output)).unwrap();
    let row = &report["measurements"][0];
    let size = row["batch_size_mean"].as_f64().unwrap();
    assert!((1.0..=2.0).contains(&size), "{row}");
    assert!(row["batch_p99_ms"].as_f64().unwrap() > 0.0, "{row}");
    // 13 chunks of 160 ms each, and those that filled the caches.
    assert!(value(&read(&path), "nemostt_batch_size_sum") > 26.0);
}

#[test]
fn a_file_that_cannot_be_written_is_refused_at_once() {
    let clip = clip_path(ONE);
    let output = command(&["--metrics-file=/no/such/x.prom"])
        .arg(&clip)
        .output()
        .unwrap();
    assert!(complaint(&output).contains("cannot write /no/such/x.prom"));
    assert_eq!(output.stdout, b"");
    let output = nemostt(&["bench", "--metrics-file=x.prom"]).output().unwrap();
    assert!(complaint(&output).contains("--streams or --paced"));
    for arguments in [["--metrics-file=-"], ["--metrics-interval=5"]] {
        let output = command(&arguments).arg(&clip).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

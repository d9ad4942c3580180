// SPDX-License-Identifier: MIT OR Apache-2.0

//! `nemostt bench` as its users meet it: a process. How fast this machine is, no test can know.

use std::fs;

use crate::{
    common::data,
    support::process::{complaint, nemostt, written},
};

#[test]
fn json_has_sane_numbers() {
    let output = nemostt(&["bench", "--lookahead=480", "--threads=1", "--json"])
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_str(written(&output)).unwrap();
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    assert_eq!(
        (&report["model"], &report["decoder"], &report["threads"]),
        (&"embedded".into(), &"rnnt".into(), &1.into())
    );
    assert!(
        number(&report["cores"]) >= 1.0 && number(&report["first_load_ms"]) > 0.0 && number(&report["load_ms"]) > 0.0
    );

    let memory = &report["memory_bytes"];
    let [model, stream, loading, peak] =
        ["model", "stream", "loading_peak", "peak"].map(|key| number(&memory[key]) / 1_048_576.0);
    // 1.7 million parameters of 4 bytes, ONNX Runtime and its arena.
    assert!((7.0..500.0).contains(&model), "{memory}");
    // Some 0.4 MB of caches; less where streams lie in pages that loading left behind.
    assert!((0.0..20.0).contains(&stream), "{memory}");
    assert!(loading <= peak && model < peak, "{memory}");

    assert!((0.0..=1.0).contains(&number(&report["waiting"])), "{report}");

    let rows = report["lookaheads"].as_array().unwrap();
    assert_eq!(rows.len(), 1);
    let row = |key: &str| number(&rows[0][key]);
    assert_eq!((row("lookahead_ms"), row("chunk_ms")), (480.0, 560.0));
    let stages = ["front_end_ms", "encoder_ms", "decoder_ms", "rest_ms"].map(row);
    assert!(stages.iter().all(|&stage| stage > 0.0), "{stages:?}");
    // What is computed for a chunk is in one stage or another, but for the measuring itself.
    let (sum, whole) = (stages.iter().sum::<f64>(), row("real_time_factor") * row("chunk_ms"));
    assert!((0.5..1.5).contains(&(sum / whole)), "{sum} of {whole} ms");
    assert!(row("step_median_ms") <= row("step_p95_ms"));
    assert!(row("streams_per_core") >= 0.0);
}

#[test]
fn a_table_of_a_clip_of_ones_own() {
    let clip = data("wav/u2_digits.wav");
    let output = nemostt(&["bench", "--lookahead", "80,480", "--decoder=ctc", "--file"])
        .arg(&clip)
        .output()
        .unwrap();
    let text = written(&output);
    assert!(text.contains("embedded: ctc on cpu"), "{text}");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("|  ")).collect();
    assert_eq!(rows.len(), 2, "{text}");
    assert!(rows[0].contains("80 ms") && rows[1].contains("480 ms"), "{text}");
}

#[test]
fn streams_in_real_time() {
    let directory = tempfile::tempdir().unwrap();
    let plot = directory.path().join("delays.svg");
    let output = nemostt(&[
        "bench",
        "--paced",
        "--streams=2,1",
        "--seconds=2",
        "--lookahead=80",
        "--json",
        "--plot",
    ])
    .arg(&plot)
    .output()
    .unwrap();
    let report: serde_json::Value = serde_json::from_str(written(&output)).unwrap();
    assert_eq!(
        (&report["model"], &report["mode"]),
        (&"embedded".into(), &"paced".into())
    );
    assert_eq!(
        (&report["chunk_ms"], &report["delay_bound_ms"]),
        (&160.0.into(), &80.0.into())
    );
    assert!(report["max_streams"].is_null(), "{report}");

    let rows = report["measurements"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for (row, streams) in rows.iter().zip([1, 2]) {
        let number = |key: &str| row[key].as_f64().unwrap();
        assert_eq!(number("streams"), f64::from(streams));
        // 12 or 13 chunks per stream, fewer if the machine is so busy that it ends early.
        let steps = number("steps");
        assert!(
            steps >= 1.0 && steps <= 13.0 * f64::from(streams) || row["kept_up"] == false,
            "{row}"
        );
        let delays = ["delay_p50_ms", "delay_p90_ms", "delay_p99_ms", "delay_max_ms"].map(number);
        assert!(delays[0] > 0.0 && delays.is_sorted(), "{row}");
        assert!((0.0..=1.0).contains(&number("late")) && number("lag_ms") > 0.0, "{row}");
        assert!(row["kept_up"] == false || number("cpu_ms") > 0.0, "{row}");
        assert!(number("stream_bytes") >= 0.0, "{row}");
        assert!(number("threads") >= 1.0 + f64::from(streams), "{row}");
    }

    let svg = fs::read_to_string(&plot).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
    assert_eq!(svg.matches("<circle").count(), 4, "{svg}");
    assert!(svg.contains("embedded, lookahead 80 ms"), "{svg}");
}

#[test]
fn streams_as_fast_as_possible() {
    let output = nemostt(&["bench", "--streams=1,2", "--seconds=2"]).output().unwrap();
    let text = written(&output);
    assert!(text.contains("2 s per stream, as fast as possible"), "{text}");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("|  ")).collect();
    assert_eq!(rows.len(), 2, "{text}");
}

#[test]
fn what_cannot_be_measured_is_told() {
    let refused = |arguments: &[&str], expected: &str| {
        let output = nemostt(&[&["bench"], arguments].concat()).output().unwrap();
        assert!(complaint(&output).contains(expected), "{}", complaint(&output));
    };
    refused(&["--lookahead=80,100"], "lookahead 100 ms is not possible");
    refused(&["--model=/no/such/model"], "/no/such/model");
    refused(&["--file=/no/such/file"], "/no/such/file");
    refused(&["--paced", "--lookahead=80,480"], "one lookahead");
    refused(&["--streams=1", "--plot=/no/such/plot"], "cannot write /no/such/plot");
    let short = data("wav/e1_clip300ms.wav");
    refused(&["--file", short.to_str().unwrap()], "too short");
}

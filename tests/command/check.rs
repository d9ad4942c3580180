// SPDX-License-Identifier: MIT OR Apache-2.0

//! `nemostt check` as its users meet it: a process.

use crate::{
    common::{data, model_path},
    support::process::{complaint, nemostt, written},
};

fn json(model: &str) -> serde_json::Value {
    let path = data(model);
    let output = nemostt(&["check", "--json", path.to_str().unwrap()]).output().unwrap();
    serde_json::from_str(written(&output)).unwrap()
}

#[test]
fn a_model_is_described() {
    let path = model_path("trained");
    let output = nemostt(&["check", path.to_str().unwrap()]).output().unwrap();
    let text = written(&output);
    let verdict = format!("{} works on this machine.\n", path.display());
    assert!(text.starts_with(&verdict), "{text}");
    for word in [
        "RNN-T, fp32, 1.7 million parameters",
        "NeMo",
        "6 layers of width 96, 80 mel bands, 5.6 s of left context",
        "1040 ms (supported: 0, 80, 480, 1040 ms)",
        "turn off the",
        "prediction network and joint",
    ] {
        assert!(text.contains(word), "\"{word}\" is missing:\n{text}");
    }
    assert!(text.lines().count() < 25, "{text}");
    assert!(!text.contains("cache_last_channel"), "{text}");
}

#[test]
fn verbose_lists_the_tensors_after_the_verdict() {
    let path = model_path("trained");
    let output = nemostt(&["check", "--verbose", path.to_str().unwrap()])
        .output()
        .unwrap();
    let text = written(&output);
    assert!(text.starts_with(path.to_str().unwrap()), "{text}");
    for word in ["works on this machine", "cache_last_channel", "any × 80 × any"] {
        assert!(text.contains(word), "\"{word}\" is missing:\n{text}");
    }
}

#[test]
fn passes_show_what_they_changed_and_why_not() {
    let path = model_path("trained");
    let dump = tempfile::tempdir().unwrap();
    let graphs = dump.path().join("graphs");
    let output = nemostt(&[
        "check",
        "--passes",
        "--dump-graphs",
        graphs.to_str().unwrap(),
        path.to_str().unwrap(),
    ])
    .output()
    .unwrap();
    let text = written(&output);
    for word in [
        "Passes over the encoder:",
        "cache-projected-kv        12 caches",
        "rel-shift-to-gather       6 of 6 relative shifts",
        "quantize-int8             not applied: int8 was not requested",
        "Passes over the prediction network:",
        "1 of 1 LSTM layers",
    ] {
        assert!(text.contains(word), "\"{word}\" is missing:\n{text}");
    }
    let first = graphs.join("01-fold-constants.onnx");
    assert!(first.metadata().unwrap().len() > 10_000);

    let path = data("layouts/sherpa_int8");
    let output = nemostt(&["check", "--passes", "--precision", "int8", path.to_str().unwrap()])
        .output()
        .unwrap();
    let text = written(&output);
    assert!(text.contains("not applied: its weights are int8 already"), "{text}");
}

#[test]
fn layouts_and_precisions_are_named() {
    for (model, layout, precision, graphs) in [
        ("layouts/sherpa", "sherpa-onnx", "fp32", 3),
        ("layouts/sherpa_int8", "sherpa-onnx", "int8", 3),
        ("layouts/parakeet_rs", "parakeet-rs", "fp32", 2),
        ("layouts/genai", "onnxruntime-genai", "fp32", 3),
        ("layouts/eou6", "six-input", "fp32", 3),
        ("layouts/fp16", "NeMo", "fp16", 2),
    ] {
        let report = json(model);
        assert_eq!(report["usable"], true, "{model}");
        assert_eq!(report["layout"], layout, "{model}");
        assert_eq!(report["precision"], precision, "{model}");
        let files = report["graphs"].as_array().unwrap();
        assert_eq!(files.len(), graphs, "{model}");
        assert!(
            files.iter().all(|file| file["bytes"].as_u64().unwrap() > 1000),
            "{model}"
        );
        assert!(report["self_test"]["seconds"].as_f64().unwrap() > 1.9);
    }
    let multilingual = json("kinds/nemotron_multi");
    let languages = multilingual["languages"].as_array().unwrap();
    assert!(languages.iter().any(|language| language == "de-DE"));
    assert_eq!(
        multilingual["lookaheads_ms"],
        serde_json::json!([0, 80, 240, 480, 560, 1040])
    );
}

#[test]
fn a_wrong_model_fails_with_the_cure() {
    for (model, word) in [
        ("faults/offline", "cache_support"),
        ("faults/tdt", "token-and-duration"),
        ("nothing/here", "nothing/here"),
    ] {
        let path = data(model);
        let output = nemostt(&["check", path.to_str().unwrap()]).output().unwrap();
        assert!(complaint(&output).contains(word), "{model}");
    }
    let path = model_path("trained");
    let output = nemostt(&["check", path.to_str().unwrap(), "--lookahead", "100"])
        .output()
        .unwrap();
    assert!(complaint(&output).contains("it allows 0 ms, 80 ms"));
}

#[test]
fn without_a_model_the_embedded_one_is_checked() {
    let output = nemostt(&["check"]).output().unwrap();
    assert!(output.status.success());
    assert!(
        output
            .stdout
            .starts_with(b"The built-in demo model works on this machine.")
    );
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.lines().count() == 1 && errors.contains("demo model"), "{errors}");
}

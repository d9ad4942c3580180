// SPDX-License-Identifier: MIT OR Apache-2.0

//! Valid models with too little memory.

use std::path::Path;

use nemostt::Error;

use super::{
    child::{LINE_PREFIX, Process, TASK},
    transcribe,
};
use crate::common::{clip, data};

/// Address space in kilobytes: from just enough to start the program but too little to map ONNX Runtime's library, to
/// more than enough.
const LIMITS: std::ops::RangeInclusive<u64> = 40_000..=160_000;

/// Limits at which ONNX Runtime's library cannot be mapped, or can be mapped but not initialized.
const NO_START: std::ops::RangeInclusive<u64> = 40_000..=80_000;

/// Transcribes one second with the model named by the environment variable: see [`Process`].
#[test]
#[ignore = "child process of the tests below"]
fn transcribe_one_second() {
    let Ok(task) = std::env::var(TASK) else { return };
    let (model, cache) = task.split_once(' ').unwrap();
    let cache = Some(Path::new(cache)).filter(|cache| !cache.as_os_str().is_empty());
    let second = &clip("u2_digits")[..16_000];
    println!("{LINE_PREFIX}begin");
    let outcome = match transcribe(&data("layouts").join(model), second, cache) {
        Ok(outcome) => outcome.to_owned(),
        Err(Error::OutOfMemory { .. }) => "out of memory".into(),
        Err(error) => format!("rejected: {}", error.to_string().replace('\n', " ")),
    };
    println!("{LINE_PREFIX}{outcome}");
}

/// The outcome of the child for `model` with `limit` kilobytes, or how it died.
fn outcome(model: &str, limit: u64) -> String {
    let mut process = Process::start("corrupted::memory::transcribe_one_second", model, limit);
    let started = process.line();
    let outcome = started.and_then(|_| process.line());
    outcome.unwrap_or_else(|end| format!("died: {end}"))
}

fn is_clean(outcome: &str) -> bool {
    matches!(outcome, "out of memory" | "ran")
}

#[test]
fn too_little_memory_is_reported() {
    // A model with all weights in the graph, one with weights in another file, one whose weights grow when loaded, and
    // the demo model, also from the cache.
    let cache = tempfile::tempdir().unwrap();
    let demo = "../../../crates/nemostt/assets/demo-model";
    let ran = transcribe(
        &data("layouts").join(demo),
        &clip("u2_digits")[..16_000],
        Some(cache.path()),
    );
    assert_eq!(ran.unwrap(), "ran");
    let cached_demo = format!("{demo} {}", cache.path().display());
    for model in ["nemo ", "genai ", "fp16 ", &format!("{demo} "), &cached_demo] {
        let outcomes: Vec<_> = LIMITS
            .step_by(6_000)
            .map(|limit| (limit, outcome(model, limit)))
            .collect();
        assert!(
            outcomes.iter().all(|(_, outcome)| is_clean(outcome)),
            "{model}: {outcomes:?}"
        );
        assert!(
            outcomes.iter().any(|(_, outcome)| outcome == "out of memory"),
            "{model}: {outcomes:?}"
        );
        assert_eq!(outcomes[outcomes.len() - 1].1, "ran", "{model}");
    }
}

#[test]
fn too_little_memory_for_onnx_runtime_is_reported() {
    // Without the check, it would crash at few of these limits, and at different ones each time. So many are tried.
    for limit in NO_START.step_by(250) {
        let outcome = outcome("nemo ", limit);
        assert!(is_clean(&outcome), "{limit}: {outcome}");
    }
}

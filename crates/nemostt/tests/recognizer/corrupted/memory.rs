// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sound models where there is not enough memory for them.

use std::path::Path;

use nemostt::Error;

use super::{
    child::{MARK, Process, TASK},
    hear,
};
use crate::common::{clip, data};

/// Addresses in kilobytes: from those that the program itself starts with, and so few that ONNX Runtime's library cannot be
/// mapped, to more than enough.
const LIMITS: std::ops::RangeInclusive<u64> = 40_000..=160_000;

/// Those in which ONNX Runtime's library cannot be mapped, or be mapped but not started.
const NO_START: std::ops::RangeInclusive<u64> = 40_000..=80_000;

/// Hears one second with the model that the variable names: see [`Process`].
#[test]
#[ignore = "it is the child of the tests below"]
fn one_second_in_little_memory() {
    let Ok(task) = std::env::var(TASK) else { return };
    let (model, cache) = task.split_once(' ').unwrap();
    let cache = Some(Path::new(cache)).filter(|cache| !cache.as_os_str().is_empty());
    let second = &clip("u2_digits")[..16_000];
    println!("{MARK}begin");
    let outcome = match hear(&data("layouts").join(model), second, cache) {
        Ok(heard) => heard.to_owned(),
        Err(Error::OutOfMemory { .. }) => "out of memory".into(),
        Err(error) => format!("refused: {}", error.to_string().replace('\n', " ")),
    };
    println!("{MARK}{outcome}");
}

/// What the child says of `model` in so many kilobytes, or how it died.
fn outcome(model: &str, limit: u64) -> String {
    let mut process = Process::start("corrupted::memory::one_second_in_little_memory", model, limit);
    let begun = process.line();
    let outcome = begun.and_then(|_| process.line());
    outcome.unwrap_or_else(|end| format!("died: {end}"))
}

fn is_clean(outcome: &str) -> bool {
    matches!(outcome, "out of memory" | "ran")
}

#[test]
fn too_little_memory_is_said() {
    // Two that keep all weights in the graph, one that has them beside it and one whose weights grow when they are loaded.
    // The last one also as it was kept before.
    let cache = tempfile::tempdir().unwrap();
    let demo = "../../../crates/nemostt/assets/demo-model";
    let ran = hear(
        &data("layouts").join(demo),
        &clip("u2_digits")[..16_000],
        Some(cache.path()),
    );
    assert_eq!(ran.unwrap(), "ran");
    let kept = format!("{demo} {}", cache.path().display());
    for model in ["nemo ", "genai ", "fp16 ", &format!("{demo} "), &kept] {
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
fn too_little_memory_for_onnx_runtime_is_said() {
    // Left alone, it would die in few of them, and each time in others: so many are tried.
    for limit in NO_START.step_by(250) {
        let outcome = outcome("nemo ", limit);
        assert!(is_clean(&outcome), "{limit}: {outcome}");
    }
}

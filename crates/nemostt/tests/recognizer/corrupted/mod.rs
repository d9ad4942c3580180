// SPDX-License-Identifier: MIT OR Apache-2.0

//! Corrupt models: each is rejected with an error, or runs. None panics, crashes, hangs or exhausts memory.

mod casts;
mod child;
mod damage;
mod memory;
pub mod random;
mod sidecars;
mod wire;

use std::{
    collections::BTreeMap,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use crate::common::{clip, data};
use child::{LINE_PREFIX, Process, TASK};
use damage::{Files, KINDS, corrupt};
use nemostt::{Cache, CacheDirectory, Error, Options, Recognizer};

/// One model of each graph layout, and one whose encoder runs as a program: rows of the others are too short for the kernels.
const MODELS: [&str; 9] = [
    "nemo",
    "sherpa",
    "sherpa_ctc",
    "parakeet_rs",
    "eou6",
    "genai",
    "fp16",
    "sherpa_int8",
    "nemotron_shape",
];
const CORPUS: u64 = 500;
/// Models per child process.
const BATCH: u64 = 20;
/// Address space of a child. A valid model of the corpus needs a quarter of it, including libraries.
const KILOBYTES: u64 = 2 << 20;

fn files(model: &str) -> Files {
    match model {
        "nemotron_shape" => files_in(&data(model)),
        layout => files_in(&data("layouts").join(layout)),
    }
}

fn files_in(directory: &Path) -> Files {
    let entries = fs::read_dir(directory).unwrap();
    let read = |path: std::path::PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, fs::read(path).unwrap())
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    // Reference values are no part of a model.
    let paths = paths.filter(|path| path.extension().is_none_or(|extension| extension != "npz"));
    paths.map(read).collect()
}

/// Model `number` of the corpus: cycles through all models, and for each through all kinds of damage.
fn corpus_model(number: u64) -> (&'static str, &'static str, Files) {
    let index = number as usize;
    let model = MODELS[index % MODELS.len()];
    let (kind, files) = corrupt(files(model), number, index / MODELS.len() % KINDS.len());
    (model, kind, files)
}

/// Transcribes one second and returns the outcome. With a cache, the encoder is stored in it or read from it.
fn transcribe(directory: &Path, second: &[f32], cache: Option<&Path>) -> Result<&'static str, Error> {
    let options = Options {
        threads: 1,
        cache: Cache {
            directory: cache.map_or(CacheDirectory::Off, |path| CacheDirectory::At(path.into())),
            smallest: 0,
            ..Default::default()
        },
        ..Default::default()
    };
    let recognizer = Recognizer::load(directory, &options)?;
    let mut stream = recognizer.stream()?;
    let mut all_finite = true;
    let mut observe = |_: &nemostt::chunker::Window<'_>, outputs: &[f32]| {
        all_finite &= outputs.iter().all(|output| output.is_finite());
    };
    stream.accept_observed(second, &mut observe)?;
    stream.finish_observed(0, &mut observe)?;
    while stream.next_event().is_some() {}
    Ok(if all_finite {
        "ran"
    } else {
        "ran, with non-finite outputs"
    })
}

/// The part of the corpus that the variable names: see [`child`].
#[test]
#[ignore = "child process of the corpus test"]
fn corpus_part() {
    let Ok(task) = std::env::var(TASK) else { return };
    let (start, end) = task.split_once("..").unwrap();
    let second = &clip("u2_digits")[..16_000];
    let cache = tempfile::tempdir().unwrap();
    for number in start.parse().unwrap()..end.parse().unwrap() {
        let (_, _, files) = corpus_model(number);
        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(directory.path().join(name), bytes).unwrap();
        }
        println!("{LINE_PREFIX}begin");
        let outcome = |cache| match catch_unwind(AssertUnwindSafe(|| transcribe(directory.path(), second, cache))) {
            Ok(Ok(outcome)) => outcome.to_owned(),
            Ok(Err(error)) => format!("rejected: {}", error.to_string().replace('\n', " ")),
            Err(_) => "panicked".to_owned(),
        };
        let mut result = outcome(None);
        // One in five also with a cache: its graph is read without its weights and compiled, then read from the cache.
        if number.is_multiple_of(5) {
            for start in ["first", "second"] {
                let other = outcome(Some(cache.path()));
                if other != result {
                    result = format!("different {start} start with a cache: {other}, but {result}");
                }
            }
        }
        println!("{LINE_PREFIX}{result}");
    }
}

/// Runs the corpus from `start` to `end`; returns the outcome of each model.
fn run_corpus(start: u64, end: u64) -> BTreeMap<u64, String> {
    let next = AtomicU64::new(start);
    let outcomes = Mutex::new(BTreeMap::new());
    let run_batches = || {
        loop {
            let mut number = next.fetch_add(BATCH, Ordering::Relaxed);
            let last = (number + BATCH).min(end);
            if number >= end {
                return;
            }
            while number < last {
                let mut process = Process::start("corrupted::corpus_part", &format!("{number}..{last}"), KILOBYTES);
                while number < last {
                    let started = process.line();
                    assert_eq!(started.as_deref(), Ok("begin"), "before model {number}");
                    let outcome = process.line();
                    let died = outcome.is_err();
                    outcomes
                        .lock()
                        .unwrap()
                        .insert(number, outcome.unwrap_or_else(|end| end));
                    number += 1;
                    if died {
                        break;
                    }
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(run_batches);
        }
    });
    outcomes.into_inner().unwrap()
}

#[test]
fn corrupt_models_are_rejected_or_run() {
    // Can be set to another range of the endless corpus, with a line for each model.
    let range = std::env::var("NEMOSTT_CORPUS").ok();
    let (start, end) = match range.as_ref().and_then(|range| range.split_once("..")) {
        Some((start, end)) => (start.parse().unwrap(), end.parse().unwrap()),
        None => (0, CORPUS),
    };
    let outcomes = run_corpus(start, end);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut bad = Vec::new();
    for (number, outcome) in &outcomes {
        let (kind, _) = outcome.split_once(':').unwrap_or((outcome, ""));
        *counts.entry(kind).or_default() += 1;
        let (model, damage, _) = corpus_model(*number);
        let line = format!("{number} ({model}, {damage}): {outcome}");
        if range.is_some() {
            eprintln!("{line}");
        }
        if !matches!(kind, "ran" | "rejected") {
            bad.push(line);
        }
    }
    eprintln!("{counts:?}");
    assert_eq!(outcomes.len() as u64, end - start);
    // 135 of the first 500 run. If nearly all were rejected at once, the corpus would only test the first check.
    if outcomes.len() as u64 >= CORPUS {
        for kind in ["ran", "rejected"] {
            let count = counts.get(kind).copied().unwrap_or_default();
            assert!(10 * count >= outcomes.len(), "{counts:?}: too few {kind}");
        }
    }
    assert!(
        bad.is_empty(),
        "{} of {}:\n{}",
        bad.len(),
        outcomes.len(),
        bad.join("\n")
    );
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! A graph as it was exported and as it is rewritten, both run by ONNX Runtime: either refused by both or of the same outputs.

#![no_main]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use nemostt::{
    CacheDirectory, Error, Event, GraphOptimization, Options, Recognizer, Token,
    fuzzing::weights,
    chunker::Window,
};
use nemostt_compiler::{Component, Graph, import};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use nemostt_fuzz::mutate;

/// Windows are compared that are heard after the first one, and a short one at the end.
const WINDOWS: usize = 3;
/// Of the largest value: sums in another order differ by a hundredth of it in `tests/graph_passes.rs`.
const BOUND: f32 = 1e-3;

fuzz_target!(init: nemostt::set_runtime_logger(|_, _| ()), |bytes: &[u8]| {
    let Some(files) = files(bytes) else { return };
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    for (name, content) in files {
        fs::write(directory.path().join(name), content).expect("room for a model");
    }
    fs::write(directory.path().join("weights"), &*weights()).expect("room for weights");
    let [export, plan] = [GraphOptimization::None, GraphOptimization::All].map(|how| hear(directory.path(), how));
    match (export, plan) {
        (Err(_), Err(_)) => (),
        (Ok(export), Ok(plan)) => compare(&export, &plan),
        // What does not fit into memory says nothing of the graph.
        (Err(Error::OutOfMemory { .. }), _) | (_, Err(Error::OutOfMemory { .. })) => (),
        (Err(error), Ok(_)) => panic!("the plan runs, and the export does not: {error}"),
        (Ok(_), Err(error)) => panic!("the export runs, and the plan does not: {error}"),
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::model(&mut data[..max_size], size, seed).unwrap_or_else(|| fuzzer_mutate(data, size, max_size))
});

/// The files of a model one graph of which is in `bytes`; `None` where it is none that occurs in models.
fn files(bytes: &[u8]) -> Option<Vec<(&'static str, Vec<u8>)>> {
    let mut graph = Graph::decode_file(bytes.into()).ok()?;
    graph.attach(|_| Ok(weights())).ok()?;
    let graphs = match import(graph).ok()?.1 {
        Component::Encoder(graph, contract) if contract.ctc => {
            let labels = graph
                .output("logprobs")?
                .dims
                .last()
                .copied()
                .flatten()?
                .checked_sub(1)?;
            let tokens: String = (0..labels.min(1 << 16)).map(|id| format!("▁a{id} {id}\n")).collect();
            return Some(vec![("ctc.onnx", bytes.into()), ("tokens.txt", tokens.into())]);
        }
        Component::Encoder(..) => vec![
            ("encoder.onnx", bytes.into()),
            ("decoder_joint.onnx", TRANSDUCER.clone()),
        ],
        Component::Transducer(_) => vec![("encoder.onnx", ENCODER.clone()), ("decoder_joint.onnx", bytes.into())],
        _ => return None,
    };
    Some(graphs.into_iter().chain([("tokens.txt", TOKENS.clone())]).collect())
}

static ENCODER: LazyLock<Vec<u8>> = LazyLock::new(|| of_sources("tdt/encoder-model.onnx"));
static TRANSDUCER: LazyLock<Vec<u8>> = LazyLock::new(|| of_sources("lookahead3/decoder_joint-model.onnx"));
static TOKENS: LazyLock<Vec<u8>> = LazyLock::new(|| of_sources("tdt/tokens.txt"));

fn of_sources(path: &str) -> Vec<u8> {
    let faults = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data/faults");
    fs::read(faults.join(path)).expect("it is in the sources")
}

/// What a stream gave.
struct Heard {
    /// Valid outputs, frame by frame.
    outputs: Vec<f32>,
    tokens: Vec<Token>,
    cached: i64,
}

fn hear(model: &Path, how: GraphOptimization) -> Result<Heard, Error> {
    let mut options = Options {
        threads: 1,
        graph_optimization: how,
        ..Default::default()
    };
    options.cache.directory = CacheDirectory::Off;
    let recognizer = Recognizer::load(model, &options)?;
    let mut stream = recognizer.stream()?;
    let chunk = recognizer.config().lookahead + 1;
    let is_ctc = recognizer.config().contract.ctc;
    let mut outputs = Vec::new();
    let mut keep = |window: &Window<'_>, output: &[f32]| {
        let size = output.len() / chunk;
        for frame in 0..window.outputs {
            let value = |index: usize| match is_ctc {
                true => output[frame * size + index],
                false => output[index * chunk + frame],
            };
            outputs.extend((0..size).map(value));
        }
    };
    let samples = recognizer.config().frame_samples() as usize * (chunk * WINDOWS + chunk / 2);
    let noise: Vec<f32> = (0..samples)
        .map(|index| ((index * index % 977) as f32 / 977.0 - 0.5) * 0.3)
        .collect();
    stream.accept_observed(&noise, &mut keep)?;
    stream.finish_observed(0, &mut keep)?;
    let mut tokens = Vec::new();
    while let Some(event) = stream.next_event() {
        if let Event::Token(token) = event {
            tokens.push(token);
        }
    }
    Ok(Heard {
        outputs,
        tokens,
        cached: stream.cache_len(),
    })
}

fn compare(export: &Heard, plan: &Heard) {
    assert_eq!(export.outputs.len(), plan.outputs.len());
    assert_eq!(export.cached, plan.cached);
    let most = export
        .outputs
        .iter()
        .fold(1.0, |most: f32, value| most.max(value.abs()));
    for (place, (a, b)) in export.outputs.iter().zip(&plan.outputs).enumerate() {
        let is_near = a == b || (a - b).abs() <= BOUND * most;
        assert!(
            is_near,
            "output {place} is {a}, and {b} by the plan; the largest is {most}"
        );
    }
    let labels = |heard: &Heard| {
        heard
            .tokens
            .iter()
            .map(|token| (token.id, token.frame))
            .collect::<Vec<_>>()
    };
    assert_eq!(labels(export), labels(plan));
}

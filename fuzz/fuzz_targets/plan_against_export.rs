// SPDX-License-Identifier: MIT OR Apache-2.0

//! Runs a graph with ONNX Runtime as exported and as compiled. Either both are rejected, or their outputs are equal.

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

/// Full windows to compare. A shorter one follows at the end.
const WINDOWS: usize = 3;
/// Tolerance relative to the largest value. Differences from the order of summation are a hundredth of this in
/// `crates/nemostt/tests/recognizer/graph_passes.rs`.
const BOUND: f32 = 1e-3;

fuzz_target!(init: nemostt::set_runtime_logger(|_, _| ()), |bytes: &[u8]| {
    let Some(files) = files(bytes) else { return };
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    for (name, content) in files {
        fs::write(directory.path().join(name), content).expect("enough disk space");
    }
    fs::write(directory.path().join("weights"), &*weights()).expect("enough disk space");
    let [exported, compiled] =
        [GraphOptimization::None, GraphOptimization::All].map(|choice| transcribe(directory.path(), choice));
    match (exported, compiled) {
        (Err(_), Err(_)) => (),
        (Ok(exported), Ok(compiled)) => compare(&exported, &compiled),
        // Not a fault of the graph.
        (Err(Error::OutOfMemory { .. }), _) | (_, Err(Error::OutOfMemory { .. })) => (),
        (Err(error), Ok(_)) => panic!("the compiled graph runs, but the exported one does not: {error}"),
        (Ok(_), Err(error)) => panic!("the exported graph runs, but the compiled one does not: {error}"),
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::model(&mut data[..max_size], size, seed).unwrap_or_else(|| fuzzer_mutate(data, size, max_size))
});

/// The files of a model that contains the graph in `bytes`; `None` if it is not a graph of a supported model.
fn files(bytes: &[u8]) -> Option<Vec<(&'static str, Vec<u8>)>> {
    let mut graph = Graph::decode_file(bytes.into()).ok()?;
    graph.attach(|_| Ok(weights())).ok()?;
    let graphs = match import(graph).ok()?.1 {
        Component::Encoder(graph, contract) if contract.ctc => {
            let tokens = graph
                .output("logprobs")?
                .dims
                .last()
                .copied()
                .flatten()?
                .checked_sub(1)?;
            let lines: String = (0..tokens.min(1 << 16)).map(|id| format!("▁a{id} {id}\n")).collect();
            return Some(vec![("ctc.onnx", bytes.into()), ("tokens.txt", lines.into())]);
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

static ENCODER: LazyLock<Vec<u8>> = LazyLock::new(|| read_fault("tdt/encoder-model.onnx"));
static TRANSDUCER: LazyLock<Vec<u8>> = LazyLock::new(|| read_fault("lookahead3/decoder_joint-model.onnx"));
static TOKENS: LazyLock<Vec<u8>> = LazyLock::new(|| read_fault("tdt/tokens.txt"));

fn read_fault(path: &str) -> Vec<u8> {
    let faults = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data/faults");
    fs::read(faults.join(path)).expect("a file of the test data")
}

/// Output of a stream.
struct Transcript {
    /// Valid encoder outputs, frame by frame.
    outputs: Vec<f32>,
    tokens: Vec<Token>,
    cached: i64,
}

fn transcribe(model: &Path, optimization: GraphOptimization) -> Result<Transcript, Error> {
    let mut options = Options {
        threads: 1,
        graph_optimization: optimization,
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
    Ok(Transcript {
        outputs,
        tokens,
        cached: stream.cache_len(),
    })
}

fn compare(exported: &Transcript, compiled: &Transcript) {
    assert_eq!(exported.outputs.len(), compiled.outputs.len());
    assert_eq!(exported.cached, compiled.cached);
    let largest = exported
        .outputs
        .iter()
        .fold(1.0, |largest: f32, value| largest.max(value.abs()));
    for (index, (a, b)) in exported.outputs.iter().zip(&compiled.outputs).enumerate() {
        let is_near = a == b || (a - b).abs() <= BOUND * largest;
        assert!(
            is_near,
            "output {index} is {a}, but {b} when compiled; the largest is {largest}"
        );
    }
    let token_frames = |transcript: &Transcript| {
        transcript
            .tokens
            .iter()
            .map(|token| (token.id, token.frame))
            .collect::<Vec<_>>()
    };
    assert_eq!(token_frames(exported), token_frames(compiled));
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The specialized graph compared with the exported one: same outputs for encoders of any size.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::{
    common::{clip, data, model_path},
    log,
};
use nemostt::{DecoderKind, GraphOptimization, Options, PassReport, Recognizer};
use nemostt_compiler::{
    Graph, StreamingConfig,
    fuzzing::onnx::{
        AttributeProto, ModelProto, NodeProto, TensorProto, attribute_proto::AttributeType, tensor_proto::DataType,
    },
    read_file, specialize,
};
use proptest::{prelude::*, test_runner::TestRunner};
use prost::Message as _;

/// Small encoders that differ in width, heads, layers, kernel size, biases, left context and normalization.
const FAMILY: [&str; 5] = ["wide_kernel", "no_bias", "one_head", "batch_norm", "short_context"];

/// Reproducible noise, alternately loud and quiet.
fn noise(samples: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let next = |index: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let loudness = [0.5, 0.01, 0.1][index / 8000 % 3];
        loudness * (f32::from((state >> 16) as u16) / 32_768.0 - 1.0)
    };
    (0..samples).map(next).collect()
}

/// Loads a model, and asserts that its graph was specialized: a failure would only be logged.
fn load(path: &Path, options: &Options) -> Recognizer {
    log::start();
    let recognizer = Recognizer::load(path, options).unwrap();
    let log = log::lines();
    let name = path.to_string_lossy();
    let is_failure = |line: &&String| line.contains("runs unmodified") && line.contains(&*name);
    let failed: Vec<_> = log.iter().filter(is_failure).collect();
    assert!(failed.is_empty(), "{failed:?}");
    recognizer
}

/// Valid outputs of each window, frame by frame, and the length of the attention cache at the end of each stream.
fn run(
    path: &Path,
    decoder: DecoderKind,
    lookahead: usize,
    optimization: GraphOptimization,
    audio: &[&[f32]],
) -> Vec<Vec<f32>> {
    let options = Options {
        lookahead: Some(lookahead as u32 * 80),
        decoder,
        threads: 1,
        graph_optimization: optimization,
        ..Default::default()
    };
    let recognizer = load(path, &options);
    let chunk = lookahead + 1;
    let mut stream = recognizer.stream().unwrap();
    let mut seen = Vec::new();
    for samples in audio {
        let mut keep = |window: &nemostt::chunker::Window<'_>, output: &[f32]| {
            let size = output.len() / chunk;
            let value = |(t, d): (usize, usize)| match decoder {
                DecoderKind::Ctc => output[t * size + d],
                _ => output[d * chunk + t],
            };
            seen.push(
                (0..window.outputs)
                    .flat_map(|t| (0..size).map(move |d| (t, d)))
                    .map(value)
                    .collect(),
            );
        };
        for block in samples.chunks(1000) {
            stream.accept_observed(block, &mut keep).unwrap();
        }
        stream.finish_observed(0, &mut keep).unwrap();
        seen.push(vec![stream.cache_len() as f32]);
        stream.reset();
    }
    seen
}

/// Compares 30 steps and a short last window, then another stream with the same buffers.
fn assert_matches_export(path: &Path, decoder: DecoderKind, lookahead: usize) {
    let chunk = (lookahead + 1) * 1280;
    let (long, short) = (noise(30 * chunk + 700, 1), noise(3 * chunk / 2, 2));
    let audio = [&long[..], &short[..]];
    let exported = run(path, decoder, lookahead, GraphOptimization::None, &audio);
    let specialized = run(path, decoder, lookahead, GraphOptimization::All, &audio);
    assert!(exported.len() > 30);
    assert_eq!(exported.len(), specialized.len());
    let mut worst: f32 = 0.0;
    for (window, (a, b)) in exported.iter().zip(&specialized).enumerate() {
        assert_eq!(a.len(), b.len(), "window {window}");
        for (x, y) in a.iter().zip(b) {
            worst = worst.max((x - y).abs());
            assert!(
                (x - y).abs() < 1e-5,
                "{}, lookahead {lookahead}, window {window}: {x} and {y}",
                path.display()
            );
        }
    }
    println!(
        "{}, {decoder:?}, lookahead {lookahead}: largest difference {worst:e}",
        path.display()
    );
}

#[test]
fn specialized_graphs_match_exports_across_encoder_family() {
    for name in FAMILY {
        for lookahead in [0, 1, 6, 13] {
            assert_matches_export(&data("plan").join(name), DecoderKind::Ctc, lookahead);
        }
    }
}

#[test]
fn specialized_transducers_match_exports() {
    for lookahead in [0, 1, 6, 13] {
        assert_matches_export(&model_path("tiny_random"), DecoderKind::Rnnt, lookahead);
    }
    for lookahead in [0, 1, 3, 6, 13] {
        assert_matches_export(&model_path("nemotron_shape"), DecoderKind::Rnnt, lookahead);
    }
}

#[test]
fn specialized_graphs_match_exports_on_speech() {
    let speech = clip("u2_digits");
    for decoder in [DecoderKind::Rnnt, DecoderKind::Ctc] {
        let path = model_path("trained");
        let exported = run(&path, decoder, 6, GraphOptimization::None, &[&speech]);
        let specialized = run(&path, decoder, 6, GraphOptimization::All, &[&speech]);
        let pairs = exported.iter().flatten().zip(specialized.iter().flatten());
        let worst = pairs.map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        // Log-probabilities reach -100, where 1e-5 is less than their last bit.
        assert!(
            worst < if decoder == DecoderKind::Ctc { 1e-4 } else { 1e-5 },
            "{decoder:?}: {worst}"
        );
    }
}

/// Number of nodes of each operator in a graph.
fn operations(graph: Graph) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for operation in graph.operations() {
        *counts.entry(operation.to_owned()).or_default() += 1;
    }
    counts
}

#[test]
fn every_pattern_is_found_in_nemo_exports() {
    let family = FAMILY.map(|name| data("plan").join(name).join("ctc.onnx"));
    let others = [
        data("nemotron_shape/encoder-model.onnx"),
        data("tiny_random/encoder-rnnt_la13.onnx"),
        data("tiny_random/ctc_la13.onnx"),
        model_path("trained").join("encoder-model.onnx"),
    ];
    for path in family.iter().chain(&others) {
        let mut graph = Graph::decode_file(read_file(path).unwrap()).unwrap();
        let streaming = StreamingConfig::read(&graph).unwrap();
        let before = operations(graph.clone());
        let (found, reports) = specialize(&mut graph, &streaming, 1).unwrap();
        let diagnostics: Vec<_> = reports.iter().filter_map(PassReport::diagnostic).collect();
        assert_eq!(diagnostics, [""; 0], "{}", path.display());
        // Keys, values and the state of the convolution.
        assert_eq!(found.states.len(), 3 * streaming.layers, "{}", path.display());
        let after = operations(graph);
        let count = |operation: &str| after.get(operation).copied().unwrap_or_default();
        assert_eq!(
            count("Shape") + count("Range") + count("ConstantOfShape") + count("Constant"),
            0
        );
        assert!(after.values().sum::<usize>() * 2 < before.values().sum::<usize>());
    }
}

#[test]
fn external_weight_files_are_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let whole = model_path("tiny_random");
    for name in ["decoder_joint-rnnt_la13.onnx", "tokens.txt"] {
        std::fs::copy(whole.join(name), directory.path().join(name)).unwrap();
    }
    let graph = Graph::decode_file(read_file(&whole.join("encoder-rnnt_la13.onnx")).unwrap()).unwrap();
    let encoded = graph.encode();
    assert!(encoded.model.len() * 2 < encoded.files[0].1.len());
    std::fs::write(directory.path().join("encoder.onnx"), &encoded.model).unwrap();
    for (name, bytes) in &encoded.files {
        std::fs::write(directory.path().join(name), bytes).unwrap();
    }
    let audio = noise(16_000, 3);
    for optimization in [GraphOptimization::All, GraphOptimization::None] {
        let [one_file, several] = [whole.as_path(), directory.path()]
            .map(|path: &Path| run(path, DecoderKind::Rnnt, 1, optimization, &[&audio]));
        assert_eq!(one_file, several, "{optimization:?}");
    }

    std::fs::remove_file(directory.path().join("weights-0")).unwrap();
    let error = Recognizer::load(directory.path(), &Options::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("encoder.onnx") && error.contains("weights-0"), "{error}");
}

#[test]
fn specialize_does_not_panic_on_corrupt_graphs() {
    const CASES: u32 = 100;
    let encoder = fs::read(data("tiny_random/encoder-rnnt_la13.onnx")).unwrap();
    // The nodes are at the start of the file, before the weights.
    let flips = prop::collection::vec((0_usize..300_000, any::<u8>()), 1..4);
    let lookahead = prop::sample::select(vec![0_usize, 13]);
    let reached = AtomicUsize::new(0);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(CASES));
    let result = runner.run(&(flips, lookahead), |(flips, lookahead)| {
        let mut bytes = encoder.clone();
        for (at, value) in flips {
            bytes[at] = value;
        }
        if let Ok(mut graph) = Graph::decode(bytes.into())
            && let Ok(streaming) = StreamingConfig::read(&graph)
        {
            reached.fetch_add(1, Ordering::Relaxed);
            let _ = specialize(&mut graph, &streaming, lookahead);
        }
        Ok(())
    });
    result.unwrap();
    let reached = reached.into_inner();
    assert!(
        reached >= CASES as usize / 4,
        "{reached} of {CASES} graphs got as far as the passes"
    );
}

/// Layers that the compiler cannot rewrite are left unchanged, next to rewritten ones, and the outputs stay the same.
#[test]
fn layers_left_unspecialized_match_the_export() {
    let mut model = ModelProto::decode(&*fs::read(data("tiny_random/encoder-rnnt_la13.onnx")).unwrap()).unwrap();
    let graph = model.graph.as_mut().unwrap();
    // Keys of layer 2 are projected by a weight that is the same at every step, which the compiler cannot know.
    let is_projection =
        |node: &&mut NodeProto| node.op_type() == "MatMul" && node.input[0].contains("layers.2/self_attn/Concat");
    let projection = graph.node.iter_mut().find(is_projection).unwrap();
    let weight = std::mem::replace(&mut projection.input[1], "weight".into());
    graph.initializer.push(TensorProto {
        name: Some("nothing".into()),
        data_type: Some(DataType::Float as i32),
        float_data: vec![0.0],
        ..Default::default()
    });
    let node = |operation: &str, inputs: &[&str], output: &str| NodeProto {
        op_type: Some(operation.into()),
        input: inputs.iter().map(|&input| input.into()).collect(),
        output: vec![output.into()],
        ..Default::default()
    };
    let mut cast = node("Cast", &["length"], "floats");
    cast.attribute.push(AttributeProto {
        name: Some("to".into()),
        r#type: Some(AttributeType::Int as i32),
        i: Some(DataType::Float as i64),
        ..Default::default()
    });
    let added = [
        cast,
        node("Mul", &["floats", "nothing"], "zero"),
        node("Add", &[&weight, "zero"], "weight"),
    ];
    graph.node.splice(0..0, added);
    let model = model.encode_to_vec();

    let mut changed = Graph::decode(model.clone().into()).unwrap();
    let streaming = StreamingConfig::read(&changed).unwrap();
    let (specialized, _) = specialize(&mut changed, &streaming, 1).unwrap();
    let keeps = |name: &str| specialized.states.iter().any(|state| state.input == name);
    assert!(keeps("cache_last_channel") && !keeps("cache_last_time"));

    let directory = tempfile::tempdir().unwrap();
    for name in ["decoder_joint-rnnt_la13.onnx", "tokens.txt"] {
        fs::copy(data("tiny_random").join(name), directory.path().join(name)).unwrap();
    }
    fs::write(directory.path().join("encoder.onnx"), model).unwrap();
    let audio = noise(40_000, 3);
    let [plain, specialized] = [GraphOptimization::None, GraphOptimization::All]
        .map(|optimization| run(directory.path(), DecoderKind::Rnnt, 1, optimization, &[&audio]));
    assert_eq!(plain.len(), specialized.len());
    assert!(plain.concat().len() > 10 * 2 * 64);
    let differences = plain
        .concat()
        .into_iter()
        .zip(specialized.concat())
        .map(|(a, b)| (a - b).abs());
    assert!(differences.fold(0.0, f32::max) < 1e-5);
}

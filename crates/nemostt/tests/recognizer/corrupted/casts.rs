// SPDX-License-Identifier: MIT OR Apache-2.0

//! A tensor of another element type somewhere in an encoder: the optimized graph is rejected whenever ONNX Runtime
//! rejects the export, and computes the same frames whenever it does not. (Fusion removes nodes that ONNX Runtime would
//! have checked: once, a tensor of bytes was read as float32, far beyond its end.)

use nemostt::{Cache, CacheDirectory, GraphOptimization, Options, Recognizer, chunker::Window};

use super::{
    damage::{Files, field::*},
    files_in,
    random::Random,
    wire::{Message, Value},
};
use crate::common::{clip, data, model_path};

const CASES: u64 = 60;

/// ONNX element types: uint8, int32, int64, bool, float16, double.
const TYPES: [u64; 6] = [2, 6, 7, 9, 10, 11];

/// In a graph that computes in half precision, values that differ in their last bits may be rounded differently.
const TOLERANCE: f32 = 1e-2;

/// Inserts a cast to `element` before input `input` of node `node` of a graph.
fn cast(graph: &mut Message, node: usize, input: usize, element: u64) {
    let mut to = Message(Vec::new());
    to.push(ATTRIBUTE_NAME, Value::Bytes(b"to".to_vec()));
    to.push(ATTRIBUTE_INT, Value::Varint(element));
    to.push(ATTRIBUTE_TYPE, Value::Varint(2));
    let from = graph.inner(node).bytes(input).to_vec();
    let mut cast = Message(Vec::new());
    cast.push(NODE_INPUT, Value::Bytes(from));
    cast.push(NODE_OUTPUT, Value::Bytes(b"cast here".to_vec()));
    cast.push(NODE_OPERATOR, Value::Bytes(b"Cast".to_vec()));
    cast.push(NODE_ATTRIBUTE, Value::Bytes(to.encode()));
    graph.change(node, |node| node.set(input, b"cast here".to_vec()));
    let cast = Value::Bytes(cast.encode());
    graph.0.insert(
        node,
        super::wire::Field {
            number: NODE,
            value: cast,
        },
    );
}

/// All encoder frames of one second of audio, or the error.
fn frames(directory: &std::path::Path, optimization: GraphOptimization) -> Result<Vec<f32>, String> {
    let options = Options {
        threads: 1,
        graph_optimization: optimization,
        cache: Cache {
            directory: CacheDirectory::Off,
            ..Default::default()
        },
        ..Default::default()
    };
    let recognizer = Recognizer::load(directory, &options).map_err(|error| error.to_string())?;
    let mut stream = recognizer.stream().map_err(|error| error.to_string())?;
    let mut all = Vec::new();
    let mut observe = |_: &Window<'_>, outputs: &[f32]| all.extend_from_slice(outputs);
    let run = stream.accept_observed(&clip("u2_digits")[..16_000], &mut observe);
    run.and_then(|()| stream.finish_observed(0, &mut observe))
        .map_err(|error| error.to_string())?;
    Ok(all)
}

fn with_cast(mut files: Files, random: &mut Random, target: Option<(&str, u64)>) -> (String, Files) {
    let name = files.keys().find(|name| name.starts_with("encoder")).unwrap().clone();
    let file = files.get_mut(&name).unwrap();
    let mut model = Message::decode(file);
    let place = model.places(MODEL_GRAPH)[0];
    let what = model.change(place, |graph| {
        let nodes = graph.places(NODE);
        let is_target = |&node: &usize| {
            let inner = graph.inner(node);
            let named = target.is_none_or(|(name, _)| inner.text(NODE_NAME).as_deref() == Some(name));
            named && !inner.places(NODE_INPUT).is_empty()
        };
        let nodes: Vec<usize> = nodes.into_iter().filter(is_target).collect();
        let node = random.pick(&nodes);
        let inputs = graph.inner(node).places(NODE_INPUT);
        let (input, element) = match target {
            Some((_, element)) => (inputs[0], element),
            None => (random.pick(&inputs), random.pick(&TYPES)),
        };
        let what = format!(
            "a cast to {element} before {:?}",
            graph.inner(node).text(NODE_NAME).unwrap_or_default()
        );
        cast(graph, node, input, element);
        what
    });
    *file = model.encode();
    (what, files)
}

/// Compares the exported graph with the optimized one; returns why the latter is rejected.
fn check(target: Option<(&str, u64)>, random: &mut Random) -> Result<(), String> {
    // The demo model is optimized to a single fused subgraph, which the small one is not everywhere.
    let directory = match target {
        Some(_) => model_path("trained"),
        None => data("layouts").join("nemo"),
    };
    let (what, files) = with_cast(files_in(&directory), random, target);
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(directory.path().join(name), bytes).unwrap();
    }
    let [export, optimized] =
        [GraphOptimization::None, GraphOptimization::All].map(|optimization| frames(directory.path(), optimization));
    match (&export, &optimized) {
        (Ok(export), Ok(optimized)) => {
            assert_eq!(export.len(), optimized.len(), "{what}");
            let largest = export.iter().fold(1.0_f32, |largest, value| largest.max(value.abs()));
            for (a, b) in export.iter().zip(optimized) {
                assert!((a - b).abs() <= TOLERANCE * largest, "{what}: {a} is not {b}");
            }
        }
        (Err(_), Err(_)) => {}
        // The export is valid, but ONNX Runtime has no kernel for it; shapes that are folded at load need none.
        (Err(reason), Ok(_)) if reason.contains("NOT_IMPLEMENTED") => {}
        _ => panic!(
            "{what}: the export {}, but the optimized graph {}",
            outcome(&export),
            outcome(&optimized)
        ),
    }
    optimized.map(drop)
}

fn outcome(result: &Result<Vec<f32>, String>) -> String {
    match result {
        Ok(_) => "runs".into(),
        Err(error) => format!("is rejected: {error}"),
    }
}

#[test]
fn inserted_cast_is_rejected_or_matches_export() {
    for element in TYPES {
        let error = check(Some(("/pre_encode/conv/Mul_3", element)), &mut Random(element)).unwrap_err();
        assert!(
            error.contains("/pre_encode/conv/Mul_3 (Mul) has input") && error.contains("of type"),
            "{error}"
        );
    }
    let mut random = Random(1);
    let run = (0..CASES).filter(|_| check(None, &mut random).is_ok()).count() as u64;
    assert!(
        (1..CASES).contains(&run),
        "{run} of {CASES} run: the test compares too little"
    );
}

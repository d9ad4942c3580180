// SPDX-License-Identifier: MIT OR Apache-2.0

use super::*;
use crate::{StreamingConfig, TensorInfo, graph_in, ir::attribute::Attribute, specialize};

const TINY: &str = "../../tests/data/tiny_random/encoder-rnnt_la13.onnx";

/// A specialized encoder, and its caches.
fn specialized(path: &str, lookahead: usize) -> (Graph, Vec<StateSpec>) {
    let mut graph = graph_in(path);
    let streaming = StreamingConfig::read(&graph).unwrap();
    let (specialized, _) = specialize(&mut graph, &streaming, lookahead).unwrap();
    (graph, specialized.states)
}

fn opened(path: &str, lookahead: usize) -> (Encoded, Vec<StateSpec>) {
    let (graph, mut states) = specialized(path, lookahead);
    let mut encoded = graph.encode();
    encoded.open_batch(&mut states).unwrap();
    (encoded, states)
}

fn find(infos: &[TensorInfo], name: &str) -> TensorInfo {
    infos.iter().find(|info| info.name == name).unwrap().clone()
}

fn count(graph: &Graph, operation: &str) -> usize {
    graph.operations().filter(|found| *found == operation).count()
}

/// Why a specialized encoder cannot be opened after `change`.
fn refusal(change: impl FnOnce(&mut Graph)) -> String {
    let (mut graph, mut states) = specialized(TINY, 1);
    change(&mut graph);
    let _ = graph.sort();
    let before = states.clone();
    let mut encoded = graph.encode();
    let model = encoded.model.clone();
    let reason = encoded.open_batch(&mut states).unwrap_err();
    assert!(encoded.model == model && states == before, "it has been changed");
    reason
}

/// Inserts `operation` after the rows that the first layer reads, which have two frames of 64 values.
fn insert(graph: &mut Graph, operation: &str, others: &[String], attributes: &[(&str, Attribute<'_>)]) {
    let node = graph
        .nodes
        .iter()
        .find(|node| node.op_type() == "LayerNormalization")
        .unwrap();
    let rows = node.input[0].clone();
    let inserted = graph.new_name("inserted");
    graph.rename_uses(&rows, &inserted);
    let inputs: Vec<&str> = std::iter::once(&rows).chain(others).map(String::as_str).collect();
    graph.add_as(&inserted, operation, &inputs, attributes);
}

#[test]
fn all_inputs_and_outputs_have_a_batch() {
    let demo = "../nemostt/assets/demo-model";
    let ctc = format!("{demo}/ctc.onnx");
    let encoder = format!("{demo}/encoder-model.onnx");
    let nemotron = "../../tests/data/nemotron_shape/encoder-model.onnx";
    for (path, lookahead) in [
        (TINY, 0),
        (TINY, 6),
        (TINY, 13),
        (&ctc, 1),
        (&encoder, 0),
        (nemotron, 1),
    ] {
        let (encoded, states) = opened(path, lookahead);
        let graph = encoded.decode_graph().unwrap();
        for info in graph.inputs().iter().chain(&graph.outputs()) {
            assert_eq!(info.dims[0], None, "{} of {path}", info.name);
        }
        for state in &states {
            assert_eq!(state.new_rows, None);
            for info in [
                find(&graph.inputs(), &state.input),
                find(&graph.outputs(), &state.output),
            ] {
                assert!(info.dims[1..].iter().flatten().eq(&state.dims[1..]), "{info:?}");
            }
        }
        // Each stream drops its own number of frames.
        assert_eq!(count(&graph, "GatherND"), 1, "{path}");
        // For booleans, CUDA does not have it.
        assert_eq!(count(&graph, "Tile"), 0, "{path}");
    }
}

#[test]
fn caches_become_slots() {
    let (mut encoded, states) = opened(TINY, 1);
    encoded.add_slots(&states).unwrap();
    let graph = encoded.decode_graph().unwrap();
    for name in [READ_SLOTS_INPUT, SLOTS_INPUT] {
        let slots = find(&graph.inputs(), name);
        assert_eq!((slots.element, slots.dims), (crate::ElementType::I64, vec![None]));
    }
    assert_eq!(count(&graph, "ScatterND"), states.len());
    let index = graph.index();
    for state in &states {
        // One reads the whole tensor, the other writes it.
        let readers = index
            .readers(&state.input)
            .into_iter()
            .map(|number| graph.nodes[number].op_type());
        let mut readers: Vec<&str> = readers.collect();
        readers.sort_unstable();
        assert_eq!(readers, ["Gather", "ScatterND"], "{}", state.input);
        let write = index.node(&graph, &state.output).unwrap();
        assert_eq!((write.op_type(), &write.input[0]), ("ScatterND", &state.input));
    }
    // ONNX Runtime requires it.
    let names: Vec<&str> = graph
        .nodes
        .iter()
        .map(|node| node.name())
        .filter(|name| !name.is_empty())
        .collect();
    let unique: std::collections::HashSet<&str> = names.iter().copied().collect();
    assert_eq!(names.len(), unique.len());
    let again = encoded.add_slots(&states).unwrap_err();
    assert!(again.contains("an input read_slots already"), "{again}");
}

#[test]
fn caches_of_all_layers_are_stacked() {
    let (mut encoded, mut states) = opened(TINY, 1);
    let layers = 4;
    assert_eq!(states.len(), 3 * layers);
    let first = states[0].dims.clone();
    encoded.stack_states(&mut states).unwrap();
    let graph = encoded.decode_graph().unwrap();
    let names: Vec<&str> = states.iter().map(|state| state.input.as_str()).collect();
    assert_eq!(names, ["cache_last_channel", "cache_last_time"]);
    // Keys and values.
    assert_eq!(states[0].dims, [&[1, 2 * layers], &first[1..]].concat());
    for state in &states {
        let [input, output] = [
            find(&graph.inputs(), &state.input),
            find(&graph.outputs(), &state.output),
        ];
        let dims = [None].into_iter().chain(state.dims[1..].iter().copied().map(Some));
        let dims: Vec<Option<usize>> = dims.collect();
        assert_eq!((input.dims, output.dims), (dims.clone(), dims));
    }
    // Those that are whole already stay; names are not given twice.
    let before = states.clone();
    encoded.stack_states(&mut states).unwrap();
    assert_eq!(states, before);
    let (mut encoded, mut states) = opened(TINY, 1);
    states[1].dims[2] += 1;
    let reason = encoded.stack_states(&mut states).unwrap_err();
    assert!(reason.contains("different shapes"), "{reason}");
}

#[test]
fn one_hot_vectors_are_compared() {
    let scatter = |axis: i64, one: f32| {
        let (mut graph, _) = specialized(TINY, 1);
        let zeros = graph.add_value(&crate::ir::constant::Constant::from_floats(vec![1, 2, 5], &[0.0; 10]));
        let ones = graph.add_value(&crate::ir::constant::Constant::from_floats(vec![1, 2, 1], &[one; 2]));
        let indices = graph.add_value(&crate::ir::constant::Constant::of_ints(vec![1, 2, 1], &[3, 1]));
        let output = graph.add(
            "ScatterElements",
            &[&zeros, &indices, &ones],
            &[("axis", Attribute::Int(axis))],
        );
        one_hot::compare_instead_of_scatter(&mut graph);
        let index = graph.index();
        let node = index.node(&graph, &output).unwrap();
        assert_eq!(graph.shape(&output), Some(&[1, 2, 5][..]));
        node.op_type().to_owned()
    };
    assert_eq!(scatter(2, 1.0), "Cast");
    assert_eq!(scatter(-1, 1.0), "Cast");
    assert_eq!(scatter(1, 1.0), "ScatterElements");
    assert_eq!(scatter(2, 0.5), "ScatterElements");
}

#[test]
fn cache_that_is_not_read_has_no_slots() {
    let (mut encoded, states) = opened(TINY, 1);
    let mut graph = encoded.decode_graph().unwrap();
    let (first, second) = (&states[0], &states[1]);
    // Both have the same shape.
    graph.rename_uses(&first.input, &second.input);
    encoded.replace_graph(graph, 0);
    let reason = encoded.add_slots(&states).unwrap_err();
    assert!(reason.contains(&first.output), "{reason}");
}

#[test]
fn operators_that_mix_streams_are_refused() {
    // Between two frames of one stream, the batch is not an axis of its own.
    let reason = refusal(|graph| insert(graph, "Softmax", &[], &[("axis", Attribute::Int(0))]));
    assert!(reason.contains("normalizes over the batch"), "{reason}");
    let reason = refusal(|graph| insert(graph, "LayerNormalization", &[], &[("axis", Attribute::Int(0))]));
    assert!(reason.contains("normalizes over the batch"), "{reason}");
    let reason = refusal(|graph| {
        let [start, end, axis] = [0, 1, 0].map(|value| graph.add_ints(&[value]));
        insert(graph, "Slice", &[start, end, axis], &[]);
    });
    assert!(reason.contains("cuts or joins streams"), "{reason}");
    let reason = refusal(|graph| {
        let first = graph.add_ints(&[0, 0]);
        insert(graph, "Gather", &[first], &[]);
    });
    assert!(reason.contains("selects streams"), "{reason}");
    let reason = refusal(|graph| {
        let values: Vec<f32> = (0..128).map(|value| value as f32).collect();
        let by_frame = graph.add_value(&crate::ir::constant::Constant::from_floats(vec![2, 64], &values));
        insert(graph, "Add", &[by_frame], &[]);
    });
    assert!(reason.contains("more than one value where the batch is"), "{reason}");
}

#[test]
fn operators_without_a_rule_are_refused() {
    let reason = refusal(|graph| insert(graph, "Selu", &[], &[]));
    assert!(reason.contains("Selu") && reason.contains("no rule"), "{reason}");
}

#[test]
fn number_of_dropped_frames_is_used_for_nothing_else() {
    // Each frame of the first stream plus the number that it drops: it would be added to those of all streams.
    let reason = refusal(|graph| {
        let add = graph
            .nodes
            .iter()
            .position(|node| node.input.iter().any(|input| input == "drop_extra_pre_encoded"));
        let selected = graph.nodes[add.unwrap()].output[0].clone();
        let cast = graph.add("Cast", &[&selected], &[("to", Attribute::Int(1))]);
        let axis = graph.add_ints(&[1]);
        let column = graph.add("Unsqueeze", &[&cast, &axis], &[]);
        insert(graph, "Add", &[column], &[]);
    });
    assert!(reason.contains("broadcasts the batch axis"), "{reason}");
}

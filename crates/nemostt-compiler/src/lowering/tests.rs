// SPDX-License-Identifier: MIT OR Apache-2.0

use std::collections::HashSet;

use super::*;
use crate::{
    ElementType, PROMPT_INPUT, RESHAPE, RING_HEAD_INPUT, StreamingConfig,
    fusions::match_matmul::with_small_matmuls,
    graph_in,
    ir::{attribute::Attribute, boundary::Side},
    onnx::tensor_proto::DataType,
    ops::{
        GLU_DEPTHWISE_CONV, LAYER_NORM, LOG_SOFTMAX, PACKED_MATMUL, REL_POS_ATTENTION, RELU_ROWS, SCALE_ROWS,
        SELECT_ROWS, STRIDED_CONV,
    },
    packed_halves, specialize,
};

/// An encoder as it is loaded, and its number of layers. `head`: with the joint's head.
fn linked(path: &str, lookahead: usize, head: bool) -> (Encoded, usize) {
    let mut graph = graph_in(path);
    let streaming = StreamingConfig::read(&graph).unwrap();
    let (mut specialized, _) = specialize(&mut graph, &streaming, lookahead).unwrap();
    crate::fusions::fuse(&mut graph, &mut specialized, &streaming);
    graph.prepack_matmuls().unwrap();
    let mut encoded = graph.encode();
    if head {
        let rows = packed_halves().to_2d().unwrap();
        let head = crate::compose(&rows.projection, &rows.scoring, "projected").unwrap();
        encoded.append_head(&head).unwrap();
    }
    encoded.fuse_subgraphs().unwrap();
    let split = encoded.split_length_graph().unwrap();
    encoded.model = split.rest;
    (encoded, streaming.layers)
}

fn refusal(graph: &Graph) -> String {
    match lower(graph) {
        Ok(_) => panic!("it is lowered"),
        Err(reason) => reason,
    }
}

fn count(lowered: &LoweredGraph, operation: &str) -> usize {
    lowered.calls.iter().filter(|call| call.operation == operation).count()
}

#[test]
fn encoders_lower_to_one_program() {
    let demo = "../nemostt/assets/demo-model/encoder-model.onnx";
    for (path, lookahead, head) in [
        (demo, 0, true),
        (demo, 1, false),
        (demo, 13, true),
        ("../nemostt/assets/demo-model/ctc.onnx", 6, false),
        ("../../tests/data/tiny_random/encoder-rnnt_la13.onnx", 6, false),
    ] {
        let (encoded, layers) = linked(path, lookahead, head);
        let lowered = encoded.lower().unwrap();
        let is_ctc = path.ends_with("ctc.onnx");
        for (operation, expected) in [
            (STRIDED_CONV.name, 3),
            (REL_POS_ATTENTION.name, layers),
            (GLU_DEPTHWISE_CONV.name, layers),
            (LAYER_NORM.name, 6 * layers),
            (SELECT_ROWS, 1),
            (SCALE_ROWS, 1),
            (LOG_SOFTMAX, usize::from(is_ctc)),
        ] {
            assert_eq!(count(&lowered, operation), expected, "{operation} of {path}");
        }
        // Values are numbered in the order in which they are written, and read after that.
        let mut next = lowered.inputs.len() + lowered.constants.len();
        for call in &lowered.calls {
            assert!(call.inputs.iter().all(|&input| input < next), "{call:?}");
            assert_eq!(call.outputs, (next..next + call.outputs.len()).collect::<Vec<_>>());
            next += call.outputs.len();
        }
        let graph = Graph::decode(encoded.model.clone().into()).unwrap();
        let names = |infos: Vec<TensorInfo>| infos.into_iter().map(|info| info.name).collect::<Vec<_>>();
        let inputs: Vec<&String> = lowered.inputs.iter().map(|input| &input.name).collect();
        assert_eq!(inputs, names(graph.inputs()).iter().collect::<Vec<_>>());
        let outputs: Vec<&String> = lowered.outputs.iter().map(|output| &output.name).collect();
        assert_eq!(outputs, names(graph.outputs()).iter().collect::<Vec<_>>());
        let audio = &lowered.inputs[0];
        assert!(
            audio.name == "audio_signal" && audio.is_transposed && audio.dims[2] == 80,
            "{audio:?}"
        );
        let transposed = |name: &str| {
            let mut outputs = lowered.outputs.iter();
            outputs
                .find(|output| output.name == name)
                .map(|output| output.is_transposed)
        };
        assert_eq!(transposed("outputs"), (!is_ctc).then_some(true));
        assert_eq!(transposed("logprobs"), is_ctc.then_some(false));
        assert_eq!(transposed("scores"), head.then_some(false));
        // Constants are computed by ONNX's own operators from nothing.
        let constants = Graph::decode(lowered.constants_graph.model.clone().into()).unwrap();
        assert!(constants.inputs.is_empty() && !lowered.constants_graph.has_custom_ops);
        assert_eq!(names(constants.outputs()), lowered.constants);
        let operations: HashSet<&str> = constants.operations().collect();
        assert!(
            operations.contains("MatMul") && !operations.contains("LogSoftmax"),
            "{operations:?}"
        );
    }
}

/// What belongs to the prompt of a multilingual model is computed outside, and added as a residual.
#[test]
fn multilingual_encoder_lowers_without_its_prompt() {
    for lookahead in [0, 6] {
        let path = "../../tests/data/kinds/nemotron_multi/encoder.onnx";
        let (encoded, layers) = with_small_matmuls(|| linked(path, lookahead, false));
        let lowered = encoded.lower().unwrap();
        // Three of the subsampling, ten of each layer, and two of the network that follows the prompt.
        assert_eq!(count(&lowered, PACKED_MATMUL.name), 3 + 10 * layers + 2);
        assert_eq!(count(&lowered, RELU_ROWS), 1);
        assert!(lowered.inputs.iter().all(|input| input.name != PROMPT_INPUT));
        let rows = |input: &&LoweredInput| input.dims == [lookahead + 1, 96];
        assert_eq!(lowered.inputs.iter().filter(rows).count(), 1);
    }
}

#[test]
fn graphs_with_other_operators_are_not_lowered() {
    let path = "../nemostt/assets/demo-model/encoder-model.onnx";
    let mut graph = graph_in(path);
    let streaming = StreamingConfig::read(&graph).unwrap();
    specialize(&mut graph, &streaming, 1).unwrap();
    let reason = refusal(&graph);
    assert!(reason.contains("cannot be a part of a program"), "{reason}");
}

/// The linked demo encoder with lookahead 1: chunks of two frames.
fn demo() -> Graph {
    let (encoded, _) = linked("../nemostt/assets/demo-model/encoder-model.onnx", 1, false);
    decoded(&encoded)
}

fn decoded(encoded: &Encoded) -> Graph {
    let mut graph = Graph::decode(encoded.model.clone().into()).unwrap();
    graph.packed.clone_from(&encoded.packed_weights);
    graph
}

/// The only node of `operation`.
fn find<'a>(graph: &'a mut Graph, operation: &str) -> &'a mut NodeProto {
    let mut found = graph.nodes.iter_mut().filter(|node| node.op_type() == operation);
    let node = found.next().unwrap();
    assert!(found.next().is_none());
    node
}

/// The reshape before the only node of `operation`, or the last one of them.
fn reshape_before<'a>(graph: &'a mut Graph, operation: &str) -> &'a mut NodeProto {
    let node = graph.nodes.iter().rfind(|node| node.op_type() == operation).unwrap();
    let number = graph.index().producer(&node.input[0]).unwrap();
    assert_eq!(graph.nodes[number].op_type(), "Reshape");
    &mut graph.nodes[number]
}

/// Lets a reshape before `operation` have another target.
fn set_target(graph: &mut Graph, operation: &str, target: &[i64]) {
    let target = graph.add_ints(target);
    reshape_before(graph, operation).input[1] = target;
}

fn set_axis(node: &mut NodeProto, axis: i64) {
    node.attribute = vec![Attribute::Int(axis).to_proto("axis")];
}

fn assert_refused(graph: &Graph, by: &str) {
    let reason = refusal(graph);
    assert!(reason.starts_with(by), "{reason}");
}

#[test]
fn log_softmax_is_over_the_last_axis() {
    let (encoded, _) = linked("../nemostt/assets/demo-model/ctc.onnx", 6, false);
    let with_axis = |axis: i64, rank_is_known: bool| {
        let mut graph = decoded(&encoded);
        if !rank_is_known {
            let rows = reshape_before(&mut graph, "LogSoftmax").input[0].clone();
            find(&mut graph, "LogSoftmax").input[0] = rows;
        }
        set_axis(find(&mut graph, "LogSoftmax"), axis);
        graph
    };
    for graph in [with_axis(-1, true), with_axis(2, true), with_axis(-1, false)] {
        assert_eq!(count(&lower(&graph).unwrap(), LOG_SOFTMAX), 1);
    }
    for axis in [-3, -2, 0, 1, 3, i64::MAX, i64::MIN] {
        assert_refused(&with_axis(axis, true), "LogSoftmax");
        assert_refused(&with_axis(axis, false), "LogSoftmax");
    }
}

#[test]
fn axes_of_views_are_not_read_as_shapes() {
    // Of unknown shape.
    for operation in ["Unsqueeze", "Squeeze"] {
        let mut graph = demo();
        set_target(&mut graph, "Gather", &[1]);
        reshape_before(&mut graph, "Gather").op_type = Some(operation.into());
        assert_refused(&graph, operation);
    }
    // Back and forth, with one of the axes counted from the end.
    let mut graph = demo();
    let axes = [0, -4].map(|axis| graph.add_ints(&[axis]));
    let before = count(&lower(&graph).unwrap(), RESHAPE);
    let outputs = |graph: &Graph| {
        graph
            .nodes
            .iter()
            .rposition(|node| node.op_type() == "Transpose")
            .unwrap()
    };
    for (operation, axes) in ["Unsqueeze", "Squeeze"].iter().zip(&axes) {
        let number = outputs(&graph);
        let input = graph.nodes[number].input[0].clone();
        let view = graph.add(operation, &[&input, axes], &[]);
        graph.nodes[number].input[0] = view;
        graph.sort().unwrap();
    }
    let lowered = lower(&graph).unwrap();
    assert_eq!(count(&lowered, RESHAPE), before);
    // The last axis is not of size 1.
    let number = graph.nodes.iter().position(|node| node.op_type() == "Squeeze").unwrap();
    graph.nodes[number].input[1] = graph.add_ints(&[-1]);
    assert_refused(&graph, "Squeeze");
}

#[test]
fn only_rows_are_selected() {
    let mut graph = demo();
    set_axis(find(&mut graph, "Gather"), 1);
    assert_refused(&graph, "Gather");
    // The first axis may be one of the batch.
    for (target, axis, refused_by) in [
        (&[1, -1, 1056][..], 0, "Gather"),
        (&[1, -1, 1056], 2, "Gather"),
        (&[1, -1, 1056], i64::MAX, "Gather"),
        // Is selected from, but not multiplied by factors with fewer axes.
        (&[1, -1, 1056], 1, "Mul"),
        (&[2, -1, 1056], 1, "Gather"),
        (&[1, 1, -1, 1056], 2, "Gather"),
    ] {
        let mut graph = demo();
        set_target(&mut graph, "Gather", target);
        set_axis(find(&mut graph, "Gather"), axis);
        assert_refused(&graph, refused_by);
    }
    // Of unknown rank.
    let mut graph = demo();
    let rows = reshape_before(&mut graph, "Gather").input[0].clone();
    find(&mut graph, "Gather").input[0] = rows;
    assert_refused(&graph, "Gather");
}

#[test]
fn rows_are_scaled_by_one_factor_each() {
    // No factors.
    let mut graph = demo();
    let mul = find(&mut graph, "Mul");
    mul.input[1] = mul.input[0].clone();
    assert_refused(&graph, "Mul");
    // Also as many factors as rows that do not belong to them in this order.
    for (data, factors, is_lowered) in [
        (&[2, 1056][..], &[2, 1][..], true),
        (&[-1, 1056], &[2, 1], true),
        (&[1, 2, 1056], &[1, 2, 1], true),
        (&[2, 1, 1056], &[1, 2, 1], false),
        (&[1, -1, 1056], &[1, 2, 1], false),
        (&[2, 1056], &[1, 2, 1], false),
        (&[1, 2, 1056], &[2, 1], false),
        (&[2, 1056], &[1, 1], false),
        (&[2, 1056], &[1, 2], false),
    ] {
        let mut graph = demo();
        let input = find(&mut graph, "Mul").input[1].clone();
        graph.fix_input(&input, factors).unwrap();
        // In place of the selected rows, those of the fused subgraph before, of which only the width is known.
        let rows = reshape_before(&mut graph, "Gather").input[0].clone();
        let target = graph.add_ints(data);
        let view = graph.add("Reshape", &[&rows, &target], &[]);
        find(&mut graph, "Mul").input[0] = view;
        graph.sort().unwrap();
        match is_lowered {
            true => assert_eq!(count(&lower(&graph).unwrap(), SCALE_ROWS), 1),
            false => assert_refused(&graph, "Mul"),
        }
    }
}

#[test]
fn only_audio_and_outputs_are_transposed() {
    let outputs = |graph: &Graph| {
        graph
            .nodes
            .iter()
            .rposition(|node| node.op_type() == "Transpose")
            .unwrap()
    };
    let mut graph = demo();
    let last = outputs(&graph);
    graph.nodes[last].attribute[0].ints = vec![2, 0, 1];
    assert_refused(&graph, "Transpose");
    // Two sequences, and another output.
    let mut graph = demo();
    set_target(&mut graph, "Transpose", &[2, -1, 96]);
    assert_refused(&graph, "Transpose");
    let mut graph = demo();
    graph.rename("outputs", "frames");
    assert_refused(&graph, "Transpose");
    let mut graph = demo();
    graph.rename("audio_signal", "frames");
    assert_refused(&graph, "Transpose");

    let mut graph = demo();
    graph.fix_input("cache_last_time/0", &[1, 8, 96]).unwrap();
    graph.rename_uses("cache_last_time/0", "swapped");
    let swap = [("perm", Attribute::Ints(&[0, 2, 1]))];
    graph.add_as("swapped", "Transpose", &["cache_last_time/0"], &swap);
    graph.sort().unwrap();
    assert_refused(&graph, "Transpose");
}

#[test]
fn inputs_have_the_types_that_are_read() {
    use ElementType::{F16, F32, I32, I64};
    let mut graph = demo();
    let indices = find(&mut graph, "Gather").input[1].clone();
    let factors = find(&mut graph, "Mul").input[1].clone();
    let inputs = graph.inputs();
    let mut masks = inputs.iter().filter(|input| input.name.contains("Cast"));
    let mask = &masks.next().unwrap().name;
    for (name, elements, refused_by) in [
        ("audio_signal", [F16, I64], STRIDED_CONV.name),
        (mask, [F16, I64], STRIDED_CONV.name),
        ("cache_last_channel/0/0", [F16, I64], REL_POS_ATTENTION.name),
        ("cache_last_time/0", [F16, I32], GLU_DEPTHWISE_CONV.name),
        (RING_HEAD_INPUT, [F32, I32], REL_POS_ATTENTION.name),
        (&indices, [F32, I32], "Gather"),
        (&factors, [F16, I64], "Mul"),
    ] {
        for element in elements {
            let mut graph = demo();
            graph.set_element(Side::Input, name, element);
            assert_refused(&graph, refused_by);
        }
    }
    // More than one scalar, and a computed one.
    let mut graph = demo();
    graph.fix_input(RING_HEAD_INPUT, &[2]).unwrap();
    graph.set_element(Side::Input, RING_HEAD_INPUT, I64);
    assert_refused(&graph, REL_POS_ATTENTION.name);
    let mut graph = demo();
    let computed = find(&mut graph, "Gather").output[0].clone();
    graph.rename_uses(RING_HEAD_INPUT, &computed);
    assert_refused(&graph, REL_POS_ATTENTION.name);
}

#[test]
fn casts_of_floats_to_floats_are_dropped() {
    let (mut encoded, _) = linked("../nemostt/assets/demo-model/encoder-model.onnx", 1, false);
    let before = encoded.lower().unwrap();
    let mut graph = Graph::decode(encoded.model.clone().into()).unwrap();
    for input in ["audio_signal", "cache_last_time/0"] {
        let cast = format!("{input}/cast");
        graph.rename_uses(input, &cast);
        graph.add_as(
            &cast,
            "Cast",
            &[input],
            &[("to", Attribute::Int(DataType::Float as i64))],
        );
    }
    graph.sort().unwrap();
    encoded.model = graph.encode().model;
    let after = encoded.lower().unwrap();
    assert_eq!(after.calls, before.calls);
    assert_eq!(after.inputs, before.inputs);
}

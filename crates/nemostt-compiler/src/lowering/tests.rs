// SPDX-License-Identifier: MIT OR Apache-2.0

use super::*;
use crate::{
    StreamingConfig, graph_in,
    ops::{GLU_DEPTHWISE_CONV, LAYER_NORM, REL_POS_ATTENTION, STRIDED_CONV},
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

fn refusal(graph: Graph) -> String {
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

#[test]
fn graphs_with_other_operators_are_not_lowered() {
    let path = "../nemostt/assets/demo-model/encoder-model.onnx";
    let mut graph = graph_in(path);
    let streaming = StreamingConfig::read(&graph).unwrap();
    specialize(&mut graph, &streaming, 1).unwrap();
    let reason = refusal(graph);
    assert!(reason.contains("cannot be a part of a program"), "{reason}");

    let (encoded, _) = linked(path, 1, false);
    let changed = |edit: fn(&mut Graph)| {
        let mut graph = Graph::decode(encoded.model.clone().into()).unwrap();
        graph.packed.clone_from(&encoded.packed_weights);
        edit(&mut graph);
        refusal(graph)
    };
    let find = |graph: &mut Graph, operation: &str| {
        let found = graph.nodes.iter().position(|node| node.op_type() == operation);
        found.unwrap()
    };
    // Another order of axes, another axis, and a factor for each column.
    let reason = changed(|graph| {
        let last = graph
            .nodes
            .iter()
            .rposition(|node| node.op_type() == "Transpose")
            .unwrap();
        graph.nodes[last].attribute[0].ints = vec![2, 0, 1];
    });
    assert!(reason.starts_with("Transpose"), "{reason}");
    let mut graph = Graph::decode(encoded.model.clone().into()).unwrap();
    let gather = find(&mut graph, "Gather");
    graph.nodes[gather].attribute[0].i = Some(1);
    assert!(refusal(graph).starts_with("Gather"));
    let mut graph = Graph::decode(encoded.model.clone().into()).unwrap();
    let mul = find(&mut graph, "Mul");
    graph.nodes[mul].input[1] = graph.nodes[mul].input[0].clone();
    let reason = refusal(graph);
    assert!(reason.starts_with("Mul"), "{reason}");
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

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which graphs match, and which do not.

use super::*;
use crate::{NodeProto, StreamingConfig, graph_in, specialize};

/// Whether the subsampling of the demo model's specialized encoder is fused after `change`.
fn is_fused(change: impl FnOnce(&mut Vec<NodeProto>)) -> bool {
    let mut graph = graph_in("../nemostt/assets/demo-model/encoder-model.onnx");
    let streaming = StreamingConfig::read(&graph).unwrap();
    specialize(&mut graph, &streaming, 1).unwrap();
    change(&mut graph.nodes);
    let before = graph.nodes.len();
    let found = fuse(&mut graph);
    assert!(found || graph.nodes.len() == before);
    found
}

/// The nodes of `operation`, in graph order.
fn all<'a>(nodes: &'a mut [NodeProto], operation: &str) -> Vec<&'a mut NodeProto> {
    nodes.iter_mut().filter(|node| node.op_type() == operation).collect()
}

fn set(node: &mut NodeProto, name: &str, value: Attribute<'_>) {
    node.attribute.retain(|attribute| attribute.name() != name);
    node.attribute.push(value.to_proto(name));
}

#[test]
fn unmatched_subsampling_is_left_unfused() {
    assert!(is_fused(|_| {}));
    assert!(!is_fused(|nodes| set(
        all(nodes, "Conv")[0],
        "dilations",
        Attribute::Ints(&[2, 2])
    )));
    assert!(!is_fused(|nodes| set(
        all(nodes, "Conv")[1],
        "group",
        Attribute::Int(1)
    )));
    // A mask that is not boolean.
    assert!(!is_fused(|nodes| all(nodes, "Less")[1].op_type = Some("Add".into())));
    assert!(!is_fused(|nodes| all(nodes, "Relu")[1].op_type = Some("Tanh".into())));
    // No mask before a strided convolution.
    assert!(!is_fused(|nodes| {
        let data = all(nodes, "Conv")[1].input[0].clone();
        let mask = nodes.iter().find(|node| node.output[0] == data).unwrap();
        let unmasked = mask.input[0].clone();
        all(nodes, "Conv")[1].input[0] = unmasked;
    }));
    // A value in between has another consumer.
    assert!(!is_fused(|nodes| {
        let between = all(nodes, "Relu")[0].output[0].clone();
        all(nodes, "Relu")[1].input[0] = between;
    }));
}

#[test]
fn weight_rows_are_reordered() {
    let table: Vec<f32> = (0..12).map(|value| value as f32).collect();
    let reordered = frequencies_first(&table, [3, 2, 2]);
    assert_eq!(
        reordered,
        [0.0, 1.0, 4.0, 5.0, 8.0, 9.0, 2.0, 3.0, 6.0, 7.0, 10.0, 11.0]
    );
}

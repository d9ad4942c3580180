// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is taken for the subsampling, and what is not.

use super::*;
use crate::{Graph, NodeProto, StreamingConfig, read_file, specialize};

/// A planned encoder after `change`, and whether its subsampling is found.
fn is_found(change: impl FnOnce(&mut Vec<NodeProto>)) -> bool {
    let file = format!(
        "{}/../nemostt/assets/demo-model/encoder-model.onnx",
        env!("CARGO_MANIFEST_DIR")
    );
    let mut graph = Graph::decode_file(read_file(file.as_ref()).unwrap()).unwrap();
    let streaming = StreamingConfig::read(&graph).unwrap();
    specialize(&mut graph, &streaming, 1).unwrap();
    change(&mut graph.graph.node);
    let mut net = Net::from_onnx(&mut graph);
    let before = net.nodes.len();
    let found = fuse(&mut net);
    assert!(found || net.nodes.len() == before);
    found
}

/// The nodes of `operation`, in the order of the data.
fn all<'a>(nodes: &'a mut [NodeProto], operation: &str) -> Vec<&'a mut NodeProto> {
    nodes.iter_mut().filter(|node| node.op_type() == operation).collect()
}

fn set(node: &mut NodeProto, name: &str, value: Attribute<'_>) {
    node.attribute.retain(|attribute| attribute.name() != name);
    node.attribute.push(value.to_proto(name));
}

#[test]
fn unmatched_subsampling_is_left_unfused() {
    assert!(is_found(|_| {}));
    assert!(!is_found(|nodes| set(
        all(nodes, "Conv")[0],
        "dilations",
        Attribute::Ints(&[2, 2])
    )));
    assert!(!is_found(|nodes| set(
        all(nodes, "Conv")[1],
        "group",
        Attribute::Int(1)
    )));
    // A number that is no mask.
    assert!(!is_found(|nodes| all(nodes, "Less")[1].op_type = Some("Add".into())));
    assert!(!is_found(|nodes| all(nodes, "Relu")[1].op_type = Some("Tanh".into())));
    // No mask before a strided convolution.
    assert!(!is_found(|nodes| {
        let data = all(nodes, "Conv")[1].input[0].clone();
        let mask = nodes.iter().find(|node| node.output[0] == data).unwrap();
        let unmasked = mask.input[0].clone();
        all(nodes, "Conv")[1].input[0] = unmasked;
    }));
    // Somebody else takes what lies between.
    assert!(!is_found(|nodes| {
        let between = all(nodes, "Relu")[0].output[0].clone();
        all(nodes, "Relu")[1].input[0] = between;
    }));
}

#[test]
fn rows_of_a_table_are_put_in_order() {
    let table: Vec<f32> = (0..12).map(|value| value as f32).collect();
    let turned = frequencies_first(&table, [3, 2, 2]);
    assert_eq!(turned, [0.0, 1.0, 4.0, 5.0, 8.0, 9.0, 2.0, 3.0, 6.0, 7.0, 10.0, 11.0]);
}

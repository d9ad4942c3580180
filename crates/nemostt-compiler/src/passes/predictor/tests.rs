// SPDX-License-Identifier: MIT OR Apache-2.0

//! What becomes of graphs that differ from NeMo's. That the others give the same numbers is tested where graphs run
//! (`model/transducer.rs`).

use super::*;
use crate::ir::{attribute::Attribute, constant::Constant};
use crate::ops::LSTM_CELL;
use crate::{
    Component, NodeProto, import,
    onnx::{AttributeProto, GraphProto, attribute_proto::AttributeType},
    read_file,
};

fn export(path: &str) -> (Graph, TransducerShape) {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    let graph = Graph::decode_file(read_file(path.as_ref()).unwrap()).unwrap();
    let Component::Transducer(graphs) = import(graph).unwrap().1 else {
        panic!("{path} is a decoder and joint");
    };
    let shape = graphs.shape().unwrap();
    (graphs.prediction, shape)
}

/// The plan of an export after `change`, and its graph.
fn planned(path: &str, change: impl FnOnce(&mut GraphProto)) -> (Result<Vec<String>, String>, Graph) {
    let (mut graph, shape) = export(path);
    graph.edit_proto(change);
    let diagnostics = specialize_predictor(&mut graph, &shape, true);
    (diagnostics, graph)
}

/// Why the export with one layer is left as it is after `change` of its LSTM.
fn refused(change: impl FnOnce(&mut NodeProto)) -> String {
    let change = |graph: &mut GraphProto| change(lstm(graph));
    planned("../nemostt/assets/demo-model/decoder_joint-model.onnx", change)
        .0
        .unwrap_err()
}

fn lstm(graph: &mut GraphProto) -> &mut NodeProto {
    graph.node.iter_mut().find(|node| node.op_type() == "LSTM").unwrap()
}

fn text(name: &str, value: &'static str) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(AttributeType::String as i32),
        s: Some(value.into()),
        ..Default::default()
    }
}

#[test]
fn no_shape_changes_back_and_forth_are_left() {
    let (diagnostics, graph) = planned("../nemostt/assets/demo-model/decoder_joint-model.onnx", |_| {});
    assert!(diagnostics.unwrap().is_empty());
    let moves = ["Cast", "LSTM", "Squeeze", "Transpose"];
    let left: Vec<&str> = graph
        .operations()
        .filter(|operation| moves.contains(operation))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    // The table is the only thing that is read by label, and W is gone.
    assert_eq!(graph.operations().filter(|&operation| operation == "Gather").count(), 1);
    let (labels, hidden) = (129, 128);
    let weights = labels * 4 * hidden + hidden * 4 * hidden + hidden * hidden + hidden;
    assert!((weights..weights + 16).contains(&(graph.weights() as usize)));
}

#[test]
fn gates_are_one_operation_where_ours_may_be_used() {
    for ours in [true, false] {
        let (mut graph, shape) = export("../nemostt/assets/demo-model/decoder_joint-model.onnx");
        specialize_predictor(&mut graph, &shape, ours).unwrap();
        let count = |wanted: &str| graph.operations().filter(|&operation| operation == wanted).count();
        let (single, at_once) = (
            count("Sigmoid") + 2 * count("Split") + count("Tanh"),
            count(LSTM_CELL.name),
        );
        assert_eq!((single, at_once), if ours { (0, 1) } else { (7, 0) });
    }
}

#[test]
fn layers_behind_the_first_stay() {
    let (diagnostics, graph) = planned("../../tests/data/kinds/nemotron_en/decoder_joint-model.onnx", |_| {});
    let diagnostics = diagnostics.unwrap();
    assert!(
        diagnostics.len() == 1 && diagnostics[0].starts_with("LSTM layer 2 stays as it is"),
        "{diagnostics:?}"
    );
    assert_eq!(graph.operations().filter(|&operation| operation == "LSTM").count(), 1);
}

#[test]
fn the_usual_attributes_may_be_given() {
    let (diagnostics, _) = planned("../nemostt/assets/demo-model/decoder_joint-model.onnx", |graph| {
        let activations = AttributeProto {
            name: Some("activations".into()),
            strings: ["Sigmoid", "Tanh", "Tanh"].map(Into::into).into(),
            ..Default::default()
        };
        let usual = [
            text("direction", "forward"),
            Attribute::Int(0).to_proto("input_forget"),
            Attribute::Int(0).to_proto("layout"),
            activations,
        ];
        lstm(graph).attribute.extend(usual);
    });
    assert!(diagnostics.unwrap().is_empty());
}

#[test]
fn other_kinds_of_lstm_stay() {
    let activations = || AttributeProto {
        name: Some("activations".into()),
        strings: ["HardSigmoid", "Tanh", "Tanh"].map(Into::into).into(),
        ..Default::default()
    };
    for attribute in [
        text("direction", "reverse"),
        Attribute::Int(1).to_proto("input_forget"),
        Attribute::Int(1).to_proto("layout"),
        Attribute::Float(3.0).to_proto("clip"),
        activations(),
    ] {
        let name = attribute.name().to_owned();
        let reason = refused(|lstm| lstm.attribute.push(attribute));
        assert!(reason.contains(&name), "{name}: {reason}");
    }
    let reason = refused(|lstm| lstm.input.push("peepholes".into()));
    assert!(reason.contains("see the cells"), "{reason}");
    let reason = refused(|lstm| lstm.input[4] = "lengths".into());
    assert!(reason.contains("lengths"), "{reason}");
    let reason = refused(|lstm| lstm.input.truncate(5));
    assert!(reason.contains("without a state"), "{reason}");
    let reason = refused(|lstm| lstm.input[1] = lstm.input[3].clone());
    assert!(reason.contains("no float32 constant"), "{reason}");
    let reason = refused(|lstm| lstm.op_type = Some("GRU".into()));
    assert!(reason.contains("no layer"), "{reason}");
}

#[test]
fn what_is_no_label_has_no_table() {
    // Something is done to the embedding.
    let (diagnostics, _) = planned("../nemostt/assets/demo-model/decoder_joint-model.onnx", |graph| {
        let embedding = lstm(graph).input[0].clone();
        let at = graph.node.iter().position(|node| node.op_type() == "LSTM").unwrap();
        let mut relu = NodeProto {
            op_type: Some("Relu".into()),
            input: vec![embedding],
            ..Default::default()
        };
        relu.output = vec!["changed".into()];
        graph.node.insert(at, relu);
        lstm(graph).input[0] = "changed".into();
    });
    let reason = diagnostics.unwrap_err();
    assert!(reason.contains("no label"), "{reason}");
}

#[test]
fn too_many_labels_have_no_table() {
    let (width, hidden) = (128, 128);
    let most = unfold_lstm::MAX_TABLE_BYTES / (16 * hidden);
    for labels in [most, most + 1] {
        let (diagnostics, _) = planned("../nemostt/assets/demo-model/decoder_joint-model.onnx", |graph| {
            let gather = graph.node.iter().find(|node| node.op_type() == "Gather").unwrap();
            let name = gather.input[0].clone();
            let weight = graph.initializer.iter_mut().find(|weight| weight.name() == name);
            *weight.unwrap() = Constant::from_floats(vec![labels, width], &vec![0.5; labels * width]).to_tensor(&name);
        });
        match labels > most {
            false => assert!(diagnostics.unwrap().is_empty()),
            true => assert!(diagnostics.unwrap_err().contains("would take 64 MB")),
        }
    }
}

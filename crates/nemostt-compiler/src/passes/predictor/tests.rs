// SPDX-License-Identifier: MIT OR Apache-2.0

//! Graphs that differ from NeMo's. Tests that run specialized graphs are in `nemostt` (`model/predictor.rs`).

use super::*;
use crate::ir::{attribute::Attribute, constant::Constant};
use crate::ops::LSTM_CELL;
use crate::{
    NodeProto,
    onnx::{AttributeProto, GraphProto, attribute_proto::AttributeType},
    transducer_in,
};

fn export(path: &str) -> (Graph, TransducerShape) {
    let graphs = transducer_in(path);
    let shape = graphs.shape().unwrap();
    (graphs.prediction, shape)
}

/// Specializes the export after `change`; also returns its graph.
fn specialize_changed(path: &str, change: impl FnOnce(&mut GraphProto)) -> (Result<Vec<String>, String>, Graph) {
    let (mut graph, shape) = export(path);
    graph.edit_proto(change);
    let diagnostics = specialize_predictor(&mut graph, &shape, true);
    (diagnostics, graph)
}

/// Why the export with one layer is not rewritten after `change` of its LSTM.
fn rejection_reason(change: impl FnOnce(&mut NodeProto)) -> String {
    let change = |graph: &mut GraphProto| change(lstm(graph));
    specialize_changed("../nemostt/assets/demo-model/decoder_joint-model.onnx", change)
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
fn reshapes_that_cancel_out_are_removed() {
    let (diagnostics, graph) = specialize_changed("../nemostt/assets/demo-model/decoder_joint-model.onnx", |_| {});
    assert!(diagnostics.unwrap().is_empty());
    let moves = ["Cast", "LSTM", "Squeeze", "Transpose"];
    let left: Vec<&str> = graph
        .operations()
        .filter(|operation| moves.contains(operation))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    // Only the table is gathered from, and W is gone.
    assert_eq!(graph.operations().filter(|&operation| operation == "Gather").count(), 1);
    let (tokens, hidden) = (129, 128);
    let weights = tokens * 4 * hidden + hidden * 4 * hidden + hidden * hidden + hidden;
    assert!((weights..weights + 16).contains(&(graph.weights() as usize)));
}

#[test]
fn gates_are_fused_if_custom_ops_are_enabled() {
    for custom_ops in [true, false] {
        let (mut graph, shape) = export("../nemostt/assets/demo-model/decoder_joint-model.onnx");
        specialize_predictor(&mut graph, &shape, custom_ops).unwrap();
        let count = |wanted: &str| graph.operations().filter(|&operation| operation == wanted).count();
        let (standard, custom) = (
            count("Sigmoid") + 2 * count("Split") + count("Tanh"),
            count(LSTM_CELL.name),
        );
        assert_eq!((standard, custom), if custom_ops { (0, 1) } else { (7, 0) });
    }
}

#[test]
fn only_the_first_layer_is_rewritten() {
    let (diagnostics, graph) =
        specialize_changed("../../tests/data/kinds/nemotron_en/decoder_joint-model.onnx", |_| {});
    let diagnostics = diagnostics.unwrap();
    assert!(
        diagnostics.len() == 1 && diagnostics[0].starts_with("LSTM layer 2 is not rewritten"),
        "{diagnostics:?}"
    );
    assert_eq!(graph.operations().filter(|&operation| operation == "LSTM").count(), 1);
}

#[test]
fn explicit_default_attributes_are_supported() {
    let (diagnostics, _) = specialize_changed("../nemostt/assets/demo-model/decoder_joint-model.onnx", |graph| {
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
fn unsupported_lstm_is_not_rewritten() {
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
        let reason = rejection_reason(|lstm| lstm.attribute.push(attribute));
        assert!(reason.contains(&name), "{name}: {reason}");
    }
    let reason = rejection_reason(|lstm| lstm.input.push("peepholes".into()));
    assert!(reason.contains("peepholes"), "{reason}");
    let reason = rejection_reason(|lstm| lstm.input[4] = "lengths".into());
    assert!(reason.contains("lengths"), "{reason}");
    let reason = rejection_reason(|lstm| lstm.input.truncate(5));
    assert!(reason.contains("no initial state"), "{reason}");
    let reason = rejection_reason(|lstm| lstm.input[1] = lstm.input[3].clone());
    assert!(reason.contains("not a float32 constant"), "{reason}");
    let reason = rejection_reason(|lstm| lstm.op_type = Some("GRU".into()));
    assert!(reason.contains("no float32 LSTM layer"), "{reason}");
}

#[test]
fn no_table_if_input_is_not_an_embedding() {
    // The embedding is modified.
    let (diagnostics, _) = specialize_changed("../nemostt/assets/demo-model/decoder_joint-model.onnx", |graph| {
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
    assert!(reason.contains("not a token's embedding"), "{reason}");
}

#[test]
fn no_table_if_it_would_be_too_large() {
    let (width, hidden) = (128, 128);
    let max_tokens = unfold_lstm::MAX_TABLE_BYTES / (16 * hidden);
    for tokens in [max_tokens, max_tokens + 1] {
        let (diagnostics, _) = specialize_changed("../nemostt/assets/demo-model/decoder_joint-model.onnx", |graph| {
            let gather = graph.node.iter().find(|node| node.op_type() == "Gather").unwrap();
            let name = gather.input[0].clone();
            let weight = graph.initializer.iter_mut().find(|weight| weight.name() == name);
            *weight.unwrap() = Constant::from_floats(vec![tokens, width], &vec![0.5; tokens * width]).to_tensor(&name);
        });
        match tokens > max_tokens {
            false => assert!(diagnostics.unwrap().is_empty()),
            true => assert!(diagnostics.unwrap_err().contains("would take 64 MB")),
        }
    }
}

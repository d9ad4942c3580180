// SPDX-License-Identifier: MIT OR Apache-2.0

//! Passes over graphs that differ from NeMo's exports.

use super::*;
use crate::ir::constant::Constant;
use crate::pipeline::{PassReport, specialize};
use crate::{NodeProto, graph_in};

fn export() -> (Graph, StreamingConfig) {
    let graph = graph_in("../../tests/data/tiny_random/encoder-rnnt_la13.onnx");
    let streaming = StreamingConfig::read(&graph).unwrap();
    (graph, streaming)
}

/// Specializes the export after `change`.
fn specialize_changed(
    change: impl FnOnce(&mut crate::onnx::GraphProto),
) -> Result<(SpecializedEncoder, Vec<String>), String> {
    let (mut graph, streaming) = export();
    graph.edit_proto(change);
    specialize(&mut graph, &streaming, 1).map(|(specialized, reports)| (specialized, diagnostics(&reports)))
}

fn diagnostics(reports: &[PassReport]) -> Vec<String> {
    reports.iter().filter_map(PassReport::diagnostic).collect()
}

/// The node of `operation` whose first input has `part` in its name.
fn find<'a>(nodes: &'a mut [NodeProto], operation: &str, part: &str) -> &'a mut NodeProto {
    let matches = |node: &&mut NodeProto| node.op_type() == operation && node.input[0].contains(part);
    nodes.iter_mut().find(matches).unwrap()
}

fn is_stacked(encoder: &SpecializedEncoder, name: &str) -> bool {
    encoder.states.iter().any(|state| state.input == name)
}

#[test]
fn non_constant_key_projection_disables_kv_cache() {
    let found = specialize_changed(|graph| {
        let float = crate::onnx::tensor_proto::DataType::Float as i32;
        graph
            .input
            .push(crate::onnx::types::value_info("weight", float, &[64, 64]));
        find(&mut graph.node, "MatMul", "layers.2/self_attn/Concat").input[1] = "weight".into();
    });
    let (found, diagnostics) = found.unwrap();
    assert_eq!(diagnostics.len(), 1, "{:?}", diagnostics);
    assert!(diagnostics[0].contains("layer 2"), "{:?}", diagnostics);
    assert!(is_stacked(&found, "cache_last_channel") && !is_stacked(&found, "cache_last_time"));
}

#[test]
fn unknown_cache_stacking_is_kept() {
    let found = specialize_changed(|graph| {
        let last = graph
            .node
            .iter_mut()
            .find(|node| node.output[0] == "cache_last_time_next");
        last.unwrap().op_type = Some("Relu".into());
    });
    let (found, diagnostics) = found.unwrap();
    assert_eq!(diagnostics.len(), 1, "{:?}", diagnostics);
    assert!(diagnostics[0].contains("cache_last_time_next"), "{:?}", diagnostics);
    assert!(!is_stacked(&found, "cache_last_channel") && is_stacked(&found, "cache_last_time"));
}

#[test]
fn unknown_relative_shift_is_kept() {
    let found = specialize_changed(|graph| {
        let pad = find(&mut graph.node, "Pad", "layers.1/self_attn");
        let scores = std::mem::replace(&mut pad.input[0], "positive".into());
        graph.node.push(NodeProto {
            op_type: Some("Relu".into()),
            input: vec![scores],
            output: vec!["positive".into()],
            ..Default::default()
        });
    });
    let (_, diagnostics) = found.unwrap();
    assert_eq!(diagnostics.len(), 1, "{diagnostics:?}");
    assert!(diagnostics[0].contains("3 of 4 relative shifts"), "{diagnostics:?}");
}

#[test]
fn mask_that_hides_audio_is_kept() {
    // Frames are masked from one before the end on.
    let found = specialize_changed(|graph| {
        let less = graph.node.iter_mut().filter(|node| node.op_type() == "Less");
        let key_mask = less.last().unwrap();
        assert!(key_mask.input[1].contains("Unsqueeze_6"));
        let end = std::mem::replace(&mut key_mask.input[1], "earlier".into());
        let one = Constant::of_ints(vec![], &[1]).to_tensor("one");
        graph.initializer.push(one);
        graph.node.push(NodeProto {
            op_type: Some("Sub".into()),
            input: vec![end, "one".into()],
            output: vec!["earlier".into()],
            ..Default::default()
        });
    });
    let (_, diagnostics) = found.unwrap();
    assert_eq!(diagnostics.len(), 1, "{diagnostics:?}");
    assert!(diagnostics[0].contains("0 of 8 masks"), "{diagnostics:?}");
}

#[test]
fn mask_evaluation_is_memoized() {
    // There are 2^60 paths from the mask to the lengths.
    let found = specialize_changed(|graph| {
        let less = graph.node.iter_mut().filter(|node| node.op_type() == "Less");
        let key_mask = less.last().unwrap();
        let mask = std::mem::replace(&mut key_mask.output[0], "way-0".into());
        for number in 0..60 {
            graph.node.push(NodeProto {
                op_type: Some("And".into()),
                input: vec![format!("way-{number}"); 2],
                output: vec![format!("way-{}", number + 1)],
                ..Default::default()
            });
        }
        graph.node.last_mut().unwrap().output = vec![mask];
    });
    assert_eq!(found.unwrap().1, [""; 0]);
}

#[test]
fn constant_folding_is_limited() {
    let (mut graph, _) = export();
    let sizes = Constant::of_ints(vec![1], &[1 << 16]).to_tensor("sizes");
    graph.initializers.insert(sizes);
    let zeros = |number| NodeProto {
        op_type: Some("ConstantOfShape".into()),
        input: vec!["sizes".into()],
        output: vec![format!("zeros-{number}")],
        ..Default::default()
    };
    graph.nodes = (0..400).map(zeros).collect();
    graph.fold();
    // 2^18 bytes each, and the limit is 2^26.
    assert_eq!(graph.nodes.len(), 400 - 256);
}

#[test]
fn control_flow_is_not_supported() {
    let found = specialize_changed(|graph| {
        let attribute = crate::onnx::AttributeProto {
            g: Some(Default::default()),
            ..Default::default()
        };
        graph.node[0].attribute.push(attribute);
    });
    assert_eq!(found.unwrap_err(), "it has branches or loops");
}

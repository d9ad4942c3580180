// SPDX-License-Identifier: MIT OR Apache-2.0

//! Valid exports with one modification, and the resulting errors.

use crate::{
    Component, ElementType, Graph, GraphError, NodeProto, PROMPT_INPUT, StreamingConfig, TensorInfo, TransducerShape,
    graph_in, import,
    ir::{
        attribute::Attribute,
        boundary::{Side, cast_to},
    },
    onnx,
};

fn encoder() -> Graph {
    graph_in("../../tests/data/layouts/nemo/encoder-model.onnx")
}

/// The result of importing a graph after `edit`.
fn outcome(mut graph: Graph, edit: impl Fn(&mut Graph)) -> Result<StreamingConfig, GraphError> {
    edit(&mut graph);
    match import(graph)?.1 {
        Component::Encoder(graph, _) => StreamingConfig::read(&graph),
        other => panic!("{other:?}"),
    }
}

fn declare(side: Side, name: &str, change: impl Fn(&mut TensorInfo)) -> impl Fn(&mut Graph) {
    move |graph| {
        let mut info = graph.find(side, name).unwrap();
        change(&mut info);
        graph.redeclare(side, &info);
    }
}

#[test]
fn unmodified_graph_is_valid() {
    let found = outcome(encoder(), |_| {}).unwrap();
    assert_eq!(
        (
            found.left_context,
            found.chunk_frames,
            found.drop_extra_pre_encoded,
            found.layers
        ),
        (70, 14, 2, 2)
    );
}

#[test]
fn batch_size_two_is_rejected() {
    for name in ["audio_signal", "cache_last_channel", "cache_last_time", "length"] {
        let fault = outcome(encoder(), declare(Side::Input, name, |info| info.dims[0] = Some(2))).unwrap_err();
        assert!(
            matches!(&fault, GraphError::FixedBatch { batch: 2, .. }),
            "{name}: {fault}"
        );
        assert!(fault.to_string().contains("dynamic axes"), "{fault}");
    }
}

#[test]
fn outputs_of_other_sizes_are_rejected() {
    for (name, axis) in [
        ("outputs", 1),
        ("outputs", 2),
        ("cache_last_channel_next", 1),
        ("cache_last_channel_next", 2),
        ("cache_last_channel_next", 3),
        ("cache_last_time_next", 1),
        ("cache_last_time_next", 2),
        ("cache_last_time_next", 3),
        ("cache_last_channel_next_len", 0),
        ("encoded_lengths", 0),
    ] {
        let edit = declare(Side::Output, name, |info| info.dims[axis] = Some(5));
        let fault = outcome(encoder(), edit).unwrap_err();
        assert!(
            fault.to_string().contains(&format!("its {name} ")),
            "axis {axis}: {fault}"
        );
    }
}

#[test]
fn int32_lengths_are_converted() {
    let narrow = declare(Side::Input, "length", |info| info.element = ElementType::I32);
    assert!(outcome(encoder(), narrow).is_ok());
}

#[test]
fn float_lengths_are_rejected() {
    let float = declare(Side::Input, "length", |info| info.element = ElementType::F32);
    let fault = outcome(encoder(), float).unwrap_err();
    assert!(fault.to_string().contains("length is float32"), "{fault}");
    assert!(fault.to_string().contains("expected int64"), "{fault}");
}

#[test]
fn mismatched_cache_sizes_are_rejected() {
    for (name, axis, size, word) in [
        ("cache_last_channel", 2, 64, "keeps 70 frames"),
        ("cache_last_time", 3, 4, "look back 8 frames"),
        ("cache_last_time", 2, 40, "does not match"),
        ("cache_last_time", 1, 3, "does not match"),
    ] {
        let edit = declare(Side::Input, name, |info| info.dims[axis] = Some(size));
        let fault = outcome(encoder(), edit).unwrap_err();
        assert!(matches!(fault, GraphError::Contradiction { .. }), "{name}: {fault}");
        assert!(fault.to_string().contains(word), "{fault}");
        assert!(fault.to_string().contains("Export it again"), "{fault}");
    }
}

#[test]
fn cache_rank_is_checked() {
    let flat = declare(Side::Input, "cache_last_time", |info| {
        info.dims.pop();
    });
    let fault = outcome(encoder(), flat).unwrap_err();
    assert!(
        matches!(
            fault,
            GraphError::Tensor {
                axes: 3,
                expected_axes: 4,
                ..
            }
        ),
        "{fault}"
    );
}

#[test]
fn rotary_positions_are_rejected() {
    let fault = outcome(encoder(), |graph| {
        graph.nodes.push(NodeProto {
            op_type: Some("Cos".into()),
            input: vec!["audio_signal".into()],
            output: vec!["rotated".into()],
            ..Default::default()
        });
    });
    let fault = fault.unwrap_err();
    assert!(
        fault.to_string().contains("rope") && fault.to_string().contains("rel_pos"),
        "{fault}"
    );
}

#[test]
fn unknown_inputs_are_rejected() {
    let fault = outcome(encoder(), |graph| {
        let info = TensorInfo {
            name: "speaker_embedding".into(),
            element: ElementType::F32,
            dims: vec![Some(1), Some(192)],
        };
        graph.declare(Side::Input, &info);
    });
    assert!(fault.unwrap_err().to_string().contains("speaker_embedding"));
}

#[test]
fn missing_drop_is_rejected() {
    let fault = outcome(encoder(), |graph| {
        for node in graph.nodes.iter_mut().filter(|node| node.op_type() == "Sub") {
            node.op_type = Some("Add".into());
        }
    });
    assert!(matches!(fault, Err(GraphError::CannotInfer(_))));
}

/// Uses a combined decoder and joint, so that nothing is rejected that other layouts need.
#[test]
fn joint_that_cannot_be_split_is_rejected() {
    let mut graph = graph_in("../../tests/data/layouts/nemo/decoder_joint-model.onnx");
    // A second path from the prediction network to the joint.
    let logits = graph.nodes.iter().position(|node| node.output == ["outputs"]).unwrap();
    graph.nodes[logits].output[0] = "scores".into();
    graph.nodes.push(NodeProto {
        op_type: Some("Cast".into()),
        input: vec!["targets".into()],
        output: vec!["last".into()],
        attribute: vec![cast_to(ElementType::F32)],
        ..Default::default()
    });
    graph.nodes.push(NodeProto {
        op_type: Some("Add".into()),
        input: vec!["scores".into(), "last".into()],
        output: vec!["outputs".into()],
        attribute: Vec::<onnx::AttributeProto>::new(),
        ..Default::default()
    });
    let fault = import(graph).unwrap_err();
    assert!(
        fault.to_string().contains("between prediction network and joint"),
        "{fault}"
    );
}

#[test]
fn pre_encode_cache_may_be_an_output_too() {
    let six_inputs = || graph_in("../../tests/data/layouts/eou6/encoder.onnx");
    let output = |graph: &mut Graph| {
        let info = graph.find(Side::Input, "pre_cache").unwrap();
        graph.declare(Side::Output, &info);
    };
    // Its reader is still the one node that concatenates it with the new frames.
    outcome(six_inputs(), output).unwrap();
    // Without that node, it has no reader: an output is none.
    let unread = |graph: &mut Graph| {
        output(graph);
        let audio = graph.inputs()[0].name.clone();
        for node in &mut graph.nodes {
            for input in node.input.iter_mut().filter(|input| *input == "pre_cache") {
                input.clone_from(&audio);
            }
        }
    };
    assert!(matches!(outcome(six_inputs(), unread), Err(GraphError::CannotInfer(_))));
}

/// `value_int` and `value_ints` mean the same as a tensor.
#[test]
fn integer_constants_may_be_attributes() {
    let mut graph = graph_in("../nemostt/assets/demo-model/encoder-model.onnx");
    let expected = StreamingConfig::read(&graph).unwrap();
    let mut changed = 0;
    for node in graph.nodes.iter_mut().filter(|node| node.op_type() == "Constant") {
        let Some(tensor) = node.attribute[0]
            .t
            .take_if(|tensor| tensor.data_type() == 7 && tensor.dims.len() < 2)
        else {
            continue;
        };
        let values = crate::onnx::types::integers(&tensor).unwrap();
        let value = match tensor.dims.len() {
            0 => Attribute::Int(values[0]).to_proto("value_int"),
            _ => Attribute::Ints(&values).to_proto("value_ints"),
        };
        node.attribute = vec![value];
        changed += 1;
    }
    assert!(changed > 10);
    assert_eq!(StreamingConfig::read(&graph).unwrap(), expected);
}

fn transducer_outcome(edit: impl Fn(&mut Graph)) -> Result<TransducerShape, GraphError> {
    let mut graph = graph_in("../../tests/data/layouts/nemo/decoder_joint-model.onnx");
    edit(&mut graph);
    match import(graph)?.1 {
        Component::Transducer(graphs) => graphs.shape(),
        other => panic!("{other:?}"),
    }
}

/// ONNX Runtime rejects tensors of another size than declared, also where the compiled graph would accept them.
#[test]
fn transducer_sizes_that_a_stream_cannot_feed_are_rejected() {
    transducer_outcome(|_| ()).unwrap();
    for (name, axis) in [
        ("encoder_outputs", 0),
        ("targets", 0),
        ("input_states_1", 1),
        ("input_states_2", 1),
    ] {
        let edit = declare(Side::Input, name, |info| info.dims[axis] = Some(74_352_535));
        let fault = transducer_outcome(edit).unwrap_err();
        assert!(
            matches!(&fault, GraphError::FixedBatch { tensor, batch: 74_352_535 } if tensor == name),
            "{name}: {fault}"
        );
    }
    for (name, axis) in [("targets", 1), ("input_states_2", 0), ("input_states_2", 2)] {
        let edit = declare(Side::Input, name, |info| info.dims[axis] = Some(3));
        let fault = transducer_outcome(edit).unwrap_err();
        assert!(fault.to_string().contains(&format!("its {name} is [")), "{fault}");
        assert!(fault.to_string().contains("but a stream needs ["), "{fault}");
    }
    for (name, axis) in [
        ("output_states_1", 1),
        ("output_states_2", 0),
        ("output_states_2", 2),
        ("outputs", 0),
        ("outputs", 1),
        ("outputs", 2),
    ] {
        let edit = declare(Side::Output, name, |info| info.dims[axis] = Some(42_764_066));
        assert!(transducer_outcome(edit).is_err(), "{name}, axis {axis}");
    }
    for name in ["input_states_1", "input_states_2"] {
        let flat = declare(Side::Input, name, |info| info.dims.truncate(2));
        let fault = transducer_outcome(flat).unwrap_err();
        assert!(matches!(fault, GraphError::Tensor { expected_axes: 3, .. }), "{fault}");
    }
}

#[test]
fn sizes_of_separate_predictions_are_checked() {
    let Component::Prediction(prediction) = import(graph_in("../../tests/data/layouts/sherpa/decoder.onnx"))
        .unwrap()
        .1
    else {
        panic!("a prediction network");
    };
    let joint = |batch: usize| {
        let mut graph = graph_in("../../tests/data/layouts/sherpa/joiner.onnx");
        declare(Side::Input, "decoder_outputs", |info| info.dims[0] = Some(batch))(&mut graph);
        match import(graph).unwrap().1 {
            Component::Joint(joint) => joint.with(prediction.clone(), 64),
            other => panic!("{other:?}"),
        }
    };
    joint(1).unwrap();
    let fault = joint(2).unwrap_err();
    assert!(matches!(fault, GraphError::FixedBatch { batch: 2, .. }), "{fault}");
}

#[test]
fn language_of_several_streams_is_rejected() {
    let fault = outcome(encoder(), |graph| {
        let info = TensorInfo {
            name: PROMPT_INPUT.into(),
            element: ElementType::I64,
            dims: vec![Some(7)],
        };
        graph.declare(Side::Input, &info);
    });
    assert!(
        matches!(fault, Err(GraphError::FixedBatch { batch: 7, .. })),
        "{fault:?}"
    );
}

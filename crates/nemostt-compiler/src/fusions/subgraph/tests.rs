// SPDX-License-Identifier: MIT OR Apache-2.0

use crate::ops::{
    EPSILON, GLU_DEPTHWISE_CONV, LAYER_NORM, REL_POS_ATTENTION, SCALE, SILU, STRIDED_CONV, STRIDES, WEIGHTS_INDEX,
};
use proptest::prelude::*;

use super::*;
use crate::onnx::types::value_info;
use crate::{
    StreamingConfig, TensorProto, compose, graph_in, packed_halves, specialize, specialize_predictor, transducer_in,
};

const MODELS: [(&str, usize); 4] = [
    ("../nemostt/assets/demo-model/encoder-model.onnx", 0),
    ("../nemostt/assets/demo-model/encoder-model.onnx", 1),
    ("../nemostt/assets/demo-model/ctc.onnx", 13),
    ("../../tests/data/tiny_random/encoder-rnnt_la13.onnx", 6),
];

/// An encoder after the passes at load, and its number of layers.
fn packed(path: &str, lookahead: usize) -> (Graph, usize) {
    let mut graph = graph_in(path);
    let streaming = StreamingConfig::read(&graph).unwrap();
    let (mut specialized, _) = specialize(&mut graph, &streaming, lookahead).unwrap();
    crate::fusions::fuse(&mut graph, &mut specialized, &streaming);
    graph.prepack_matmuls().unwrap();
    (graph, streaming.layers)
}

/// The calls of a fused subgraph.
fn calls(subgraph: &NodeProto) -> Vec<SubgraphCall> {
    let text = subgraph.attribute.iter().find(|attribute| attribute.name() == CALLS);
    serde_json::from_slice(text.unwrap().s()).unwrap()
}

fn count(calls: &[SubgraphCall], operation: &str) -> usize {
    calls.iter().filter(|call| call.operation == operation).count()
}

fn operations(subgraph: &NodeProto) -> Vec<String> {
    calls(subgraph).into_iter().map(|call| call.operation).collect()
}

fn subgraphs(graph: &Graph) -> Vec<&NodeProto> {
    let subgraphs = graph.nodes.iter().filter(|node| node.op_type() == FUSED_SUBGRAPH);
    subgraphs
        .inspect(|subgraph| {
            check_subgraph(subgraph);
        })
        .collect()
}

/// Checks that each call only reads values that exist, that the outputs exist, and that no value is written twice.
fn check_subgraph(subgraph: &NodeProto) {
    assert_eq!(subgraph.domain(), DOMAIN);
    let mut values = subgraph.input.len();
    for call in calls(subgraph) {
        assert!(call.inputs.iter().all(|&input| input < values), "{call:?}");
        let written: Vec<usize> = (values..).take(call.outputs.len()).collect();
        assert_eq!(call.outputs, written);
        values += written.len();
    }
    let outputs = subgraph.attribute.iter().find(|attribute| attribute.name() == OUTPUTS);
    let outputs = &outputs.unwrap().ints;
    assert_eq!(outputs.len(), subgraph.output.len());
    let inputs = subgraph.input.len() as i64;
    assert!(outputs.iter().all(|output| (inputs..values as i64).contains(output)));
    assert!(outputs.is_sorted_by(|a, b| a < b));
    let names: HashSet<&String> = subgraph.input.iter().chain(&subgraph.output).collect();
    assert_eq!(names.len(), subgraph.input.len() + subgraph.output.len());
}

/// Checks that nodes are in topological order.
fn check_order(graph: &Graph) {
    let inputs = graph.inputs.iter().map(|input| input.name());
    let mut known: HashSet<&str> = inputs
        .chain(graph.initializers.iter().map(|weight| weight.name()))
        .chain([""])
        .collect();
    for node in &graph.nodes {
        for input in &node.input {
            assert!(known.contains(input.as_str()), "{} reads {input}", node.name());
        }
        for output in &node.output {
            assert!(known.insert(output), "{output} is produced twice");
        }
    }
    assert!(graph.outputs.iter().all(|output| known.contains(output.name())));
}

#[test]
fn whole_encoder_becomes_one_fused_subgraph() {
    for (path, lookahead) in MODELS {
        let (mut graph, layers) = packed(path, lookahead);
        let (inputs, outputs, packed) = (graph.inputs(), graph.outputs(), graph.packed.len());
        let custom_ops = |graph: &Graph| graph.nodes.iter().filter(|node| node.domain() == DOMAIN).count();
        let before = custom_ops(&graph);
        let fused = graph.fuse_subgraphs();
        assert_eq!((graph.inputs(), graph.outputs()), (inputs, outputs));
        assert_eq!(graph.packed.len(), packed);
        check_order(&graph);

        // One before the multiplication with the last mask, and one after it.
        let subgraphs: Vec<Vec<SubgraphCall>> = subgraphs(&graph).into_iter().map(calls).collect();
        let [first, second] = &subgraphs[..] else {
            panic!("{path} has {} subgraphs", subgraphs.len());
        };
        assert_eq!(
            [STRIDED_CONV.name, PACKED_MATMUL.name].map(|operation| count(first, operation)),
            [3, 2],
            "{path}"
        );
        let heads = usize::from(path.ends_with("ctc.onnx"));
        let operations = [
            REL_POS_ATTENTION.name,
            GLU_DEPTHWISE_CONV.name,
            LAYER_NORM.name,
            PACKED_MATMUL.name,
        ];
        // Including the last matrix product of the subsampling.
        let expected = [layers, layers, 6 * layers, 10 * layers + 1 + heads];
        assert_eq!(operations.map(|operation| count(second, operation)), expected, "{path}");
        assert_eq!((fused, custom_ops(&graph)), (before, 2), "{path}");

        let nodes = graph.nodes.clone();
        assert_eq!(graph.fuse_subgraphs(), 0);
        assert_eq!(graph.nodes, nodes);
    }
}

#[test]
fn unoptimized_export_has_no_fused_subgraph() {
    let mut graph = graph_in("../nemostt/assets/demo-model/encoder-model.onnx");
    let before = graph.clone().into_proto();
    assert_eq!(graph.fuse_subgraphs(), 0);
    assert_eq!(graph.into_proto(), before);
}

fn node(domain: &str, operation: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        domain: Some(domain.into()),
        op_type: Some(operation.into()),
        name: Some(output.into()),
        input: inputs.iter().map(|&input| input.into()).collect(),
        output: vec![output.into()],
        ..Default::default()
    }
}

/// A custom operation.
fn custom(operation: &str, inputs: &[&str], output: &str) -> NodeProto {
    node(DOMAIN, operation, inputs, output)
}

fn product(input: &str, output: &str) -> NodeProto {
    custom(PACKED_MATMUL.name, &[input], output)
}

/// A standard operator.
fn foreign(operation: &str, inputs: &[&str], output: &str) -> NodeProto {
    node("", operation, inputs, output)
}

fn reshape(input: &str, output: &str) -> NodeProto {
    foreign(RESHAPE, &[input, "sizes"], output)
}

/// A graph of `nodes` with input `in`, and `rows`, 2-D, computed from it.
fn graph(nodes: Vec<NodeProto>, outputs: &[&str]) -> Graph {
    let float = crate::onnx::tensor_proto::DataType::Float as i32;
    let constant = |(name, sizes): (&str, &[i64])| TensorProto {
        name: Some(name.into()),
        data_type: Some(crate::onnx::tensor_proto::DataType::Int64 as i32),
        dims: vec![sizes.len() as i64],
        int64_data: sizes.into(),
        ..Default::default()
    };
    let constants: [(&str, &[i64]); 3] = [("sizes", &[-1, 8]), ("open", &[8, -1]), ("three", &[1, -1, 8])];
    let info = |name: &&str| value_info(name, float, &[2, 8]);
    let mut all = vec![foreign("Gemm", &["in"], "rows")];
    all.extend(nodes);
    let graph = crate::onnx::GraphProto {
        node: all,
        input: vec![info(&"in")],
        output: outputs.iter().map(info).collect(),
        initializer: constants.into_iter().map(constant).collect(),
        ..Default::default()
    };
    Graph::from_proto(Default::default(), graph)
}

/// Fuses such a graph: its operations in order, those of a fused subgraph in brackets; and the number of fused ones.
fn fused(nodes: Vec<NodeProto>, outputs: &[&str]) -> (String, usize) {
    let mut graph = graph(nodes, outputs);
    let count = graph.fuse_subgraphs();
    check_order(&graph);
    subgraphs(&graph);
    let operation = |node: &NodeProto| match node.op_type() {
        FUSED_SUBGRAPH => format!("[{}]", operations(node).join(" ")),
        other => other.to_owned(),
    };
    let operations: Vec<String> = graph.nodes.iter().map(operation).collect();
    (operations.join(" "), count)
}

#[test]
fn foreign_operator_splits_the_subgraph() {
    let nodes = vec![
        product("rows", "a"),
        custom(LAYER_NORM.name, &["a"], "b"),
        foreign("Sigmoid", &["b"], "c"),
        product("c", "d"),
        // This also reads an output of the first subgraph.
        custom(PACKED_MATMUL.name, &["d", "a"], "e"),
    ];
    let expected = "Gemm [PackedMatMul LayerNorm] Sigmoid [PackedMatMul PackedMatMul]";
    assert_eq!(fused(nodes, &["e"]), (expected.into(), 4));
}

#[test]
fn bypassing_value_stays_in_its_subgraph() {
    let nodes = vec![
        product("rows", "a"),
        foreign("Sigmoid", &["a"], "b"),
        product("a", "c"),
        foreign("Mul", &["b", "c"], "d"),
    ];
    assert_eq!(
        fused(nodes, &["d"]),
        ("Gemm [PackedMatMul PackedMatMul] Sigmoid Mul".into(), 2)
    );
}

#[test]
fn single_operator_is_not_fused() {
    let nodes = vec![
        product("rows", "a"),
        foreign("Sigmoid", &["a"], "b"),
        custom(LAYER_NORM.name, &["b"], "c"),
        foreign("Sigmoid", &["c"], "d"),
        reshape("d", "e"),
        product("e", "f"),
        reshape("f", "g"),
    ];
    let before = fused(nodes.clone(), &["g"]);
    assert_eq!(
        before,
        (
            "Gemm PackedMatMul Sigmoid LayerNorm Sigmoid Reshape PackedMatMul Reshape".into(),
            0
        )
    );
    // Without a matrix product, nothing is fused.
    let nodes = vec![
        custom(LAYER_NORM.name, &["rows"], "a"),
        custom(LAYER_NORM.name, &["a"], "b"),
    ];
    assert_eq!(fused(nodes, &["b"]), ("Gemm LayerNorm LayerNorm".into(), 0));
}

#[test]
fn reshape_is_fused_if_all_its_consumers_are() {
    let inside = || {
        vec![
            product("rows", "a"),
            reshape("a", "b"),
            reshape("b", "c"),
            product("c", "d"),
            product("d", "e"),
        ]
    };
    let whole = "Gemm [PackedMatMul Reshape Reshape PackedMatMul PackedMatMul]";
    assert_eq!(fused(inside(), &["e"]), (whole.into(), 3));
    let mut graph = graph(inside(), &["e"]);
    graph.fuse_subgraphs();
    let [subgraph] = subgraphs(&graph)[..] else {
        panic!("there is one subgraph");
    };
    assert_eq!(
        (&subgraph.input[..], &subgraph.output[..]),
        (&["rows".into()][..], &["e".into()][..])
    );
    let width = BTreeMap::from([(WIDTH.to_owned(), AttributeValue::Int(8))]);
    let expected = SubgraphCall {
        operation: RESHAPE.into(),
        inputs: vec![1],
        outputs: vec![2],
        attributes: width,
    };
    assert_eq!(calls(subgraph)[1], expected);

    // The second reshape has another consumer. Then the first one has a consumer outside, too.
    let mut other = inside();
    other.push(foreign("Sigmoid", &["c"], "f"));
    let expected = "Gemm PackedMatMul Reshape Reshape Sigmoid [PackedMatMul PackedMatMul]";
    assert_eq!(fused(other, &["e", "f"]), (expected.into(), 2));
    // The second one is an output of the graph.
    let expected = "Gemm PackedMatMul Reshape Reshape [PackedMatMul PackedMatMul]";
    assert_eq!(fused(inside(), &["e", "c"]), (expected.into(), 2));
    // Only the first one is.
    let expected = "Gemm PackedMatMul Reshape [Reshape PackedMatMul PackedMatMul]";
    assert_eq!(fused(inside(), &["e", "b"]), (expected.into(), 2));
}

#[test]
fn reshape_with_consumer_in_later_subgraph_is_not_fused() {
    let nodes = vec![
        product("rows", "a"),
        product("a", "b"),
        reshape("b", "c"),
        product("c", "d"),
        product("d", "e"),
        foreign("Sigmoid", &["e"], "f"),
        product("f", "g"),
        custom(PACKED_MATMUL.name, &["g", "c"], "h"),
    ];
    let expected =
        "Gemm [PackedMatMul PackedMatMul] Reshape [PackedMatMul PackedMatMul] Sigmoid [PackedMatMul PackedMatMul]";
    assert_eq!(fused(nodes, &["h"]), (expected.into(), 6));
}

#[test]
fn value_of_unknown_rank_is_not_fused() {
    let with = |first: NodeProto| fused(vec![first, product("a", "b"), product("b", "c")], &["c"]);
    assert_eq!(
        with(product("in", "a")),
        ("Gemm PackedMatMul PackedMatMul PackedMatMul".into(), 0)
    );
    let three = foreign(RESHAPE, &["rows", "three"], "a");
    assert_eq!(with(three), ("Gemm Reshape PackedMatMul PackedMatMul".into(), 0));
    let unknown = foreign(RESHAPE, &["rows", "in"], "a");
    assert_eq!(with(unknown), ("Gemm Reshape PackedMatMul PackedMatMul".into(), 0));
    // 2-D, but of unknown width.
    let open = foreign(RESHAPE, &["rows", "open"], "a");
    assert_eq!(with(open), ("Gemm Reshape [PackedMatMul PackedMatMul]".into(), 2));
    // A reshape to 2-D of a tensor of unknown rank.
    assert_eq!(
        with(reshape("in", "a")),
        ("Reshape [PackedMatMul PackedMatMul]".into(), 2)
    );
}

#[test]
fn subgraph_inputs_and_outputs_are_unique() {
    let nodes = vec![
        product("rows", "a"),
        custom(PACKED_MATMUL.name, &["a", "rows"], "b"),
        custom(GLU_DEPTHWISE_CONV.name, &["b", "cache", "weights"], "c"),
        foreign("Sigmoid", &["b"], "d"),
        foreign("Mul", &["b", "c"], "e"),
    ];
    let mut graph = graph(nodes, &["b", "d", "e"]);
    for name in ["cache", "weights"] {
        let mut input = graph.inputs[0].clone();
        input.name = Some(name.into());
        graph.inputs.push(input);
    }
    assert_eq!(graph.fuse_subgraphs(), 3);
    check_order(&graph);
    let [subgraph] = subgraphs(&graph)[..] else {
        panic!("there is one subgraph");
    };
    assert_eq!(subgraph.input, ["rows", "cache", "weights"]);
    assert_eq!(subgraph.output, ["b", "c"]);
    let calls: Vec<(Vec<usize>, Vec<usize>)> = calls(subgraph)
        .into_iter()
        .map(|call| (call.inputs, call.outputs))
        .collect();
    assert_eq!(
        calls,
        [(vec![0], vec![3]), (vec![3, 0], vec![4]), (vec![4, 1, 2], vec![5])]
    );
}

#[test]
fn attributes_are_preserved() {
    let attribute = |name: &str, kind: AttributeType| AttributeProto {
        name: Some(name.into()),
        r#type: Some(kind as i32),
        ..Default::default()
    };
    let mut first = product("rows", "a");
    first.attribute = vec![
        AttributeProto {
            i: Some(i64::MIN),
            ..attribute(WEIGHTS_INDEX, AttributeType::Int)
        },
        AttributeProto {
            ints: vec![2, -1, i64::MAX],
            ..attribute(STRIDES, AttributeType::Ints)
        },
        // No custom operation has a string attribute.
        attribute("text", AttributeType::String),
    ];
    let mut second = custom(LAYER_NORM.name, &["a"], "b");
    second.attribute = vec![
        AttributeProto {
            f: Some(1e-5),
            ..attribute(EPSILON, AttributeType::Float)
        },
        AttributeProto {
            i: Some(1),
            ..attribute(SILU, AttributeType::Int)
        },
    ];
    let mut graph = graph(vec![first, second], &["b"]);
    assert_eq!(graph.fuse_subgraphs(), 2);
    let found: Vec<BTreeMap<String, AttributeValue>> = subgraphs(&graph)
        .into_iter()
        .flat_map(calls)
        .map(|call| call.attributes)
        .collect();
    let expected = [
        BTreeMap::from([
            (WEIGHTS_INDEX.to_owned(), AttributeValue::Int(i64::MIN)),
            (STRIDES.to_owned(), AttributeValue::Ints(vec![2, -1, i64::MAX])),
        ]),
        BTreeMap::from([
            (EPSILON.to_owned(), AttributeValue::Float(1e-5)),
            (SILU.to_owned(), AttributeValue::Int(1)),
        ]),
    ];
    assert_eq!(found, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn floats_are_preserved_exactly(float in proptest::num::f32::NORMAL | proptest::num::f32::SUBNORMAL | proptest::num::f32::ZERO) {
        let call = SubgraphCall {
            operation: REL_POS_ATTENTION.name.into(),
            inputs: vec![0, 7],
            outputs: vec![8],
            attributes: BTreeMap::from([(SCALE.to_owned(), AttributeValue::Float(float))]),
        };
        let text = serde_json::to_string(&[call]).unwrap();
        let read: Vec<SubgraphCall> = serde_json::from_str(&text).unwrap();
        let Some(AttributeValue::Float(read)) = read[0].attributes.get(SCALE) else {
            panic!("{text}");
        };
        prop_assert_eq!(read.to_bits(), float.to_bits());
    }
}

#[test]
fn token_step_is_one_subgraph_after_the_table_lookup() {
    let graphs = transducer_in("../nemostt/assets/demo-model/decoder_joint-model.onnx");
    let (shape, mut prediction) = (graphs.shape().unwrap(), graphs.prediction);
    specialize_predictor(&mut prediction, &shape, true).unwrap();
    prediction.prepack_matmuls().unwrap();
    let scoring = packed_halves().to_2d().unwrap().scoring;
    for is_row in [true, false] {
        let mut prediction = prediction.clone();
        if is_row {
            assert!(prediction.output_row("prediction"));
        }
        let mut step = compose(&prediction, &scoring, "prediction").unwrap();
        let (inputs, outputs) = (step.inputs(), step.outputs());
        step.fuse_subgraphs();
        assert_eq!((step.inputs(), step.outputs()), (inputs, outputs));
        check_order(&step);
        let all: Vec<Vec<String>> = subgraphs(&step).into_iter().map(operations).collect();
        let counts = |operation: &str| all.iter().flatten().filter(|&name| name == operation).count();
        match is_row {
            true => {
                assert_eq!(
                    all,
                    [[
                        PACKED_MATMUL.name,
                        LSTM_CELL.name,
                        PACKED_MATMUL.name,
                        JOINT_ADD_RELU.name,
                        PACKED_MATMUL.name
                    ]]
                );
                assert_eq!(step.operations().collect::<Vec<_>>(), ["Gather", FUSED_SUBGRAPH]);
            }
            // With the original shape of the prediction, the product before it is not fused.
            false => assert_eq!([PACKED_MATMUL.name, LSTM_CELL.name].map(counts), [2, 1], "{all:?}"),
        }
    }
}

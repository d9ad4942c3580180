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

/// A graph that is ready to be chained, and its layers.
fn packed(path: &str, lookahead: usize) -> (Graph, usize) {
    let mut graph = graph_in(path);
    let streaming = StreamingConfig::read(&graph).unwrap();
    let (mut specialized, _) = specialize(&mut graph, &streaming, lookahead).unwrap();
    crate::fusions::fuse(&mut graph, &mut specialized, &streaming);
    graph.prepack_matmuls().unwrap();
    (graph, streaming.layers)
}

/// The calls of a chain.
fn calls(chain: &NodeProto) -> Vec<SubgraphCall> {
    let text = chain.attribute.iter().find(|attribute| attribute.name() == CALLS);
    serde_json::from_slice(text.unwrap().s()).unwrap()
}

fn count(calls: &[SubgraphCall], operation: &str) -> usize {
    calls.iter().filter(|call| call.operation == operation).count()
}

fn operations(chain: &NodeProto) -> Vec<String> {
    calls(chain).into_iter().map(|call| call.operation).collect()
}

fn chains(graph: &Graph) -> Vec<&NodeProto> {
    let chains = graph.nodes.iter().filter(|node| node.op_type() == FUSED_SUBGRAPH);
    chains
        .inspect(|chain| {
            check_chain(chain);
        })
        .collect()
}

/// Demands that every call takes what is there, that the chain gives what it says, and that nothing is made twice.
fn check_chain(chain: &NodeProto) {
    assert_eq!(chain.domain(), DOMAIN);
    let mut values = chain.input.len();
    for call in calls(chain) {
        assert!(call.inputs.iter().all(|&input| input < values), "{call:?}");
        let made: Vec<usize> = (values..).take(call.outputs.len()).collect();
        assert_eq!(call.outputs, made);
        values += made.len();
    }
    let outputs = chain.attribute.iter().find(|attribute| attribute.name() == OUTPUTS);
    let outputs = &outputs.unwrap().ints;
    assert_eq!(outputs.len(), chain.output.len());
    let inputs = chain.input.len() as i64;
    assert!(outputs.iter().all(|output| (inputs..values as i64).contains(output)));
    assert!(outputs.is_sorted_by(|a, b| a < b));
    let names: HashSet<&String> = chain.input.iter().chain(&chain.output).collect();
    assert_eq!(names.len(), chain.input.len() + chain.output.len());
}

/// Demands that what each node takes is there before it.
fn check_order(graph: &Graph) {
    let given = graph.inputs.iter().map(|input| input.name());
    let mut known: HashSet<&str> = given
        .chain(graph.initializers.iter().map(|weight| weight.name()))
        .chain([""])
        .collect();
    for node in &graph.nodes {
        for input in &node.input {
            assert!(known.contains(input.as_str()), "{} takes {input}", node.name());
        }
        for output in &node.output {
            assert!(known.insert(output), "{output} is made twice");
        }
    }
    assert!(graph.outputs.iter().all(|output| known.contains(output.name())));
}

#[test]
fn whole_encoder_becomes_one_fused_subgraph() {
    for (path, lookahead) in MODELS {
        let (mut graph, layers) = packed(path, lookahead);
        let (inputs, outputs, packed) = (graph.inputs(), graph.outputs(), graph.packed.len());
        let ours = |graph: &Graph| graph.nodes.iter().filter(|node| node.domain() == DOMAIN).count();
        let before = ours(&graph);
        let chained = graph.fuse_subgraphs();
        assert_eq!((graph.inputs(), graph.outputs()), (inputs, outputs));
        assert_eq!(graph.packed.len(), packed);
        check_order(&graph);

        // In front of what the masks are multiplied with, and behind it.
        let chains: Vec<Vec<SubgraphCall>> = chains(&graph).into_iter().map(calls).collect();
        let [front, rest] = &chains[..] else {
            panic!("{path} has {} chains", chains.len());
        };
        assert_eq!(
            [STRIDED_CONV.name, PACKED_MATMUL.name].map(|operation| count(front, operation)),
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
        // The last product of the subsampling is among them.
        let expected = [layers, layers, 6 * layers, 10 * layers + 1 + heads];
        assert_eq!(operations.map(|operation| count(rest, operation)), expected, "{path}");
        assert_eq!((chained, ours(&graph)), (before, 2), "{path}");

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

/// One of our operations.
fn ours(operation: &str, inputs: &[&str], output: &str) -> NodeProto {
    node(DOMAIN, operation, inputs, output)
}

fn product(input: &str, output: &str) -> NodeProto {
    ours(PACKED_MATMUL.name, &[input], output)
}

/// Another one.
fn foreign(operation: &str, inputs: &[&str], output: &str) -> NodeProto {
    node("", operation, inputs, output)
}

fn reshape(input: &str, output: &str) -> NodeProto {
    foreign(RESHAPE, &[input, "sizes"], output)
}

/// A graph of `nodes`, with `in` as its input and `rows` made of it, which have two axes.
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

/// What becomes of such a graph: its operations in their order, those of a chain in brackets; and how many are chained.
fn chained(nodes: Vec<NodeProto>, outputs: &[&str]) -> (String, usize) {
    let mut graph = graph(nodes, outputs);
    let count = graph.fuse_subgraphs();
    check_order(&graph);
    chains(&graph);
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
        ours(LAYER_NORM.name, &["a"], "b"),
        foreign("Sigmoid", &["b"], "c"),
        product("c", "d"),
        // This takes of the first chain, too.
        ours(PACKED_MATMUL.name, &["d", "a"], "e"),
    ];
    let expected = "Gemm [PackedMatMul LayerNorm] Sigmoid [PackedMatMul PackedMatMul]";
    assert_eq!(chained(nodes, &["e"]), (expected.into(), 4));
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
        chained(nodes, &["d"]),
        ("Gemm [PackedMatMul PackedMatMul] Sigmoid Mul".into(), 2)
    );
}

#[test]
fn single_operator_is_not_fused() {
    let nodes = vec![
        product("rows", "a"),
        foreign("Sigmoid", &["a"], "b"),
        ours(LAYER_NORM.name, &["b"], "c"),
        foreign("Sigmoid", &["c"], "d"),
        reshape("d", "e"),
        product("e", "f"),
        reshape("f", "g"),
    ];
    let before = chained(nodes.clone(), &["g"]);
    assert_eq!(
        before,
        (
            "Gemm PackedMatMul Sigmoid LayerNorm Sigmoid Reshape PackedMatMul Reshape".into(),
            0
        )
    );
    // Nor are there chains without a product.
    let nodes = vec![
        ours(LAYER_NORM.name, &["rows"], "a"),
        ours(LAYER_NORM.name, &["a"], "b"),
    ];
    assert_eq!(chained(nodes, &["b"]), ("Gemm LayerNorm LayerNorm".into(), 0));
}

#[test]
fn rows_of_another_width_are_part_of_a_chain_that_alone_takes_them() {
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
    assert_eq!(chained(inside(), &["e"]), (whole.into(), 3));
    let mut graph = graph(inside(), &["e"]);
    graph.fuse_subgraphs();
    let [chain] = chains(&graph)[..] else {
        panic!("there is one chain");
    };
    assert_eq!(
        (&chain.input[..], &chain.output[..]),
        (&["rows".into()][..], &["e".into()][..])
    );
    let width = BTreeMap::from([(WIDTH.to_owned(), AttributeValue::Int(8))]);
    let expected = SubgraphCall {
        operation: RESHAPE.into(),
        inputs: vec![1],
        outputs: vec![2],
        attributes: width,
    };
    assert_eq!(calls(chain)[1], expected);

    // Somebody else takes the second one; so the first one, too, goes to somebody else.
    let mut other = inside();
    other.push(foreign("Sigmoid", &["c"], "f"));
    let expected = "Gemm PackedMatMul Reshape Reshape Sigmoid [PackedMatMul PackedMatMul]";
    assert_eq!(chained(other, &["e", "f"]), (expected.into(), 2));
    // Somebody outside of the graph does.
    let expected = "Gemm PackedMatMul Reshape Reshape [PackedMatMul PackedMatMul]";
    assert_eq!(chained(inside(), &["e", "c"]), (expected.into(), 2));
    // Or the first one alone.
    let expected = "Gemm PackedMatMul Reshape [Reshape PackedMatMul PackedMatMul]";
    assert_eq!(chained(inside(), &["e", "b"]), (expected.into(), 2));
}

#[test]
fn rows_of_another_width_that_a_later_chain_takes_are_in_none() {
    let nodes = vec![
        product("rows", "a"),
        product("a", "b"),
        reshape("b", "c"),
        product("c", "d"),
        product("d", "e"),
        foreign("Sigmoid", &["e"], "f"),
        product("f", "g"),
        ours(PACKED_MATMUL.name, &["g", "c"], "h"),
    ];
    let expected =
        "Gemm [PackedMatMul PackedMatMul] Reshape [PackedMatMul PackedMatMul] Sigmoid [PackedMatMul PackedMatMul]";
    assert_eq!(chained(nodes, &["h"]), (expected.into(), 6));
}

#[test]
fn value_of_unknown_rank_is_not_fused() {
    let with = |first: NodeProto| chained(vec![first, product("a", "b"), product("b", "c")], &["c"]);
    assert_eq!(
        with(product("in", "a")),
        ("Gemm PackedMatMul PackedMatMul PackedMatMul".into(), 0)
    );
    let three = foreign(RESHAPE, &["rows", "three"], "a");
    assert_eq!(with(three), ("Gemm Reshape PackedMatMul PackedMatMul".into(), 0));
    let unknown = foreign(RESHAPE, &["rows", "in"], "a");
    assert_eq!(with(unknown), ("Gemm Reshape PackedMatMul PackedMatMul".into(), 0));
    // Two axes, whose sizes a chain would not know.
    let open = foreign(RESHAPE, &["rows", "open"], "a");
    assert_eq!(with(open), ("Gemm Reshape [PackedMatMul PackedMatMul]".into(), 2));
    // Two axes of what is nothing for a chain.
    assert_eq!(
        with(reshape("in", "a")),
        ("Reshape [PackedMatMul PackedMatMul]".into(), 2)
    );
}

#[test]
fn subgraph_inputs_and_outputs_are_unique() {
    let nodes = vec![
        product("rows", "a"),
        ours(PACKED_MATMUL.name, &["a", "rows"], "b"),
        ours(GLU_DEPTHWISE_CONV.name, &["b", "cache", "weights"], "c"),
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
    let [chain] = chains(&graph)[..] else {
        panic!("there is one chain");
    };
    assert_eq!(chain.input, ["rows", "cache", "weights"]);
    assert_eq!(chain.output, ["b", "c"]);
    let calls: Vec<(Vec<usize>, Vec<usize>)> = calls(chain)
        .into_iter()
        .map(|call| (call.inputs, call.outputs))
        .collect();
    assert_eq!(
        calls,
        [(vec![0], vec![3]), (vec![3, 0], vec![4]), (vec![4, 1, 2], vec![5])]
    );
}

#[test]
fn attributes_come_through() {
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
        // None of ours is of such a kind.
        attribute("text", AttributeType::String),
    ];
    let mut second = ours(LAYER_NORM.name, &["a"], "b");
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
    let found: Vec<BTreeMap<String, AttributeValue>> = chains(&graph)
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
    fn floats_come_through_exactly(float in proptest::num::f32::NORMAL | proptest::num::f32::SUBNORMAL | proptest::num::f32::ZERO) {
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
fn a_label_is_one_chain_behind_its_row_of_the_table() {
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
        let mut label = compose(&prediction, &scoring, "prediction").unwrap();
        let (inputs, outputs) = (label.inputs(), label.outputs());
        label.fuse_subgraphs();
        assert_eq!((label.inputs(), label.outputs()), (inputs, outputs));
        check_order(&label);
        let all: Vec<Vec<String>> = chains(&label).into_iter().map(operations).collect();
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
                assert_eq!(label.operations().collect::<Vec<_>>(), ["Gather", FUSED_SUBGRAPH]);
            }
            // Who wants it in other axes gets them: the product before it stays outside.
            false => assert_eq!([PACKED_MATMUL.name, LSTM_CELL.name].map(counts), [2, 1], "{all:?}"),
        }
    }
}

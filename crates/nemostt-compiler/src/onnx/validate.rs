// SPDX-License-Identifier: MIT OR Apache-2.0

//! Refuses graphs that contradict themselves, before anything relies on them: the rewrites here, and ONNX Runtime, which
//! trusts what a graph says of itself in places.
//!
//! Whatever passes has tensors as large as they say, nodes in the order of the data with the inputs and attributes their
//! operations need and of the element types that these take, and every name once. That is ONNX's own specification
//! (`docs/IR.md`), as far as it can be checked without shapes.

mod attributes;
mod tensors;
mod types;

use crate::ops::DOMAIN;
use std::collections::HashSet;

use self::types::Types;
use crate::{Graph, GraphError, NodeProto, TensorProto, ValueInfoProto, onnx::GraphProto};

/// Branches and loops in each other. Exports of speech models have none, voice activity detectors two or three.
const MAX_NESTING: usize = 8;

/// Refuses `graph` if it contradicts itself. `has_custom_ops`: it may have operations of our own.
pub(crate) fn validate(graph: &Graph, has_custom_ops: bool) -> Result<(), GraphError> {
    for set in &graph.header.opset_import {
        if set.version() < 1 {
            return Err(damaged(format!(
                "it is of version {} of the operators of \"{}\", and there is none below 1",
                set.version(),
                set.domain()
            )));
        }
    }
    let parts = Parts {
        nodes: &graph.nodes,
        initializers: &graph.initializers,
        inputs: &graph.inputs,
        outputs: &graph.outputs,
        value_info: &graph.rest.value_info,
    };
    let rules = Rules {
        has_custom_ops,
        opset: opset(graph),
    };
    check(&parts, (&HashSet::new(), &Types::new()), 0, rules)
}

fn damaged(what: String) -> GraphError {
    GraphError::Damaged { what }
}

/// What a graph may have.
#[derive(Clone, Copy)]
struct Rules {
    has_custom_ops: bool,
    /// Version of ONNX's own operators.
    opset: i64,
}

/// The version of ONNX's own operators that `graph` imports; 0 if it imports none.
fn opset(graph: &Graph) -> i64 {
    let mut sets = graph.header.opset_import.iter();
    let set = sets.find(|set| matches!(set.domain(), "" | "ai.onnx"));
    set.map_or(0, |set| set.version())
}

/// What is checked of a graph, be it the whole one, a branch or a loop.
struct Parts<'a> {
    nodes: &'a [NodeProto],
    initializers: &'a [TensorProto],
    inputs: &'a [ValueInfoProto],
    outputs: &'a [ValueInfoProto],
    value_info: &'a [ValueInfoProto],
}

impl<'a> From<&'a GraphProto> for Parts<'a> {
    fn from(graph: &'a GraphProto) -> Self {
        Self {
            nodes: &graph.node,
            initializers: &graph.initializer,
            inputs: &graph.input,
            outputs: &graph.output,
            value_info: &graph.value_info,
        }
    }
}

/// `outer` and `outer_types`: what a branch or loop sees of the graph around it.
fn check(
    graph: &Parts<'_>,
    (outer, outer_types): (&HashSet<&str>, &Types<'_>),
    depth: usize,
    rules: Rules,
) -> Result<(), GraphError> {
    if depth > MAX_NESTING {
        return Err(damaged(format!(
            "it has branches or loops in each other, more than {MAX_NESTING}"
        )));
    }
    let (mut known, mut types) = (outer.clone(), outer_types.clone());
    let mut weights = HashSet::new();
    for tensor in graph.initializers {
        tensors::check(tensor)?;
        if !weights.insert(tensor.name()) {
            return Err(twice("weight", tensor.name()));
        }
        types::note_weight(tensor, &mut types);
    }
    let mut inputs = HashSet::new();
    for input in graph.inputs {
        if !inputs.insert(input.name()) {
            return Err(twice("input", input.name()));
        }
        types::note_input(input, &mut types);
    }
    known.extend(weights);
    known.extend(inputs);
    // A branch may have a tensor of its own with a name from around it.
    let mut made: HashSet<&str> = known.difference(outer).copied().collect();
    for node in graph.nodes {
        check_node(node, (&known, &mut types), depth, rules)?;
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            if !made.insert(output) {
                return Err(twice("tensor", output));
            }
            known.insert(output);
        }
    }
    let mut outputs = HashSet::new();
    for output in graph.outputs {
        if !known.contains(output.name()) {
            return Err(damaged(format!("nothing makes its output {}", shown(output.name()))));
        }
        if !outputs.insert(output.name()) {
            return Err(twice("output", output.name()));
        }
    }
    for value in graph.outputs.iter().chain(graph.value_info) {
        let checked = types::check_declared(value, &types);
        checked.map_err(|what| damaged(format!("its tensor {} {what}", shown(value.name()))))?;
    }
    Ok(())
}

fn check_node<'a>(
    node: &'a NodeProto,
    (known, types): (&HashSet<&str>, &mut Types<'a>),
    depth: usize,
    rules: Rules,
) -> Result<(), GraphError> {
    let named = || format!("its node {} ({})", shown(node.name()), shown(node.op_type()));
    if node.op_type().is_empty() {
        return Err(damaged(format!("{} has no operation", named())));
    }
    let domain = node.domain();
    let is_ours = rules.has_custom_ops && domain == DOMAIN;
    if !matches!(domain, "" | "ai.onnx") && !domain.starts_with("com.microsoft") && !is_ours {
        return Err(GraphError::Operator {
            operator: shown(node.op_type()),
            domain: shown(domain),
        });
    }
    if node.output.iter().all(String::is_empty) {
        return Err(damaged(format!("{} gives nothing", named())));
    }
    // An empty name stands for an input that is not given, never for one that is needed.
    let needed = least_inputs(node);
    if node.input.len() < needed || node.input.iter().take(needed).any(String::is_empty) {
        return Err(damaged(format!("{} takes fewer than its {needed} inputs", named())));
    }
    let unknown = node
        .input
        .iter()
        .find(|name| !name.is_empty() && !known.contains(name.as_str()));
    if let Some(unknown) = unknown {
        return Err(damaged(format!(
            "{} takes {}, which nothing before it makes",
            named(),
            shown(unknown)
        )));
    }
    attributes::check(node, rules.opset).map_err(|what| damaged(format!("{} {what}", named())))?;
    types::check(node, types).map_err(|what| damaged(format!("{} {what}", named())))?;
    for attribute in &node.attribute {
        for tensor in attribute.t.iter().chain(&attribute.tensors) {
            tensors::check(tensor)?;
        }
        for graph in attribute.g.iter().chain(&attribute.graphs) {
            check(&graph.into(), (known, types), depth + 1, rules)?;
        }
    }
    Ok(())
}

/// Inputs that an operation cannot do without (ONNX's `docs/Operators.md`); 0 where nothing here relies on it.
fn least_inputs(node: &NodeProto) -> usize {
    match node.op_type() {
        "Cast"
        | "Clip"
        | "Concat"
        | "DynamicQuantizeLinear"
        | "Identity"
        | "LogSoftmax"
        | "Neg"
        | "Not"
        | "Pad"
        | "Relu"
        | "Shape"
        | "Sigmoid"
        | "Slice"
        | "Softmax"
        | "Split"
        | "Squeeze"
        | "Tanh"
        | "Transpose"
        | "ConstantOfShape" => 1,
        "Add" | "And" | "Conv" | "ConvInteger" | "DequantizeLinear" | "Div" | "Equal" | "Expand" | "Gather"
        | "Gemm" | "Greater" | "GreaterOrEqual" | "LayerNormalization" | "Less" | "LessOrEqual" | "MatMul"
        | "MatMulInteger" | "Mul" | "Or" | "Pow" | "Reshape" | "Sub" | "Tile" => 2,
        // Axes were an attribute before opset 13.
        "Unsqueeze" => 1,
        "LSTM" | "Range" | "ScatterElements" | "Where" => 3,
        _ => 0,
    }
}

fn twice(what: &str, name: &str) -> GraphError {
    damaged(format!("it has more than one {what} {}", shown(name)))
}

/// A name out of a damaged file, fit for a message.
fn shown(name: &str) -> String {
    const LONGEST: usize = 80;
    let clean = name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    match name.is_empty() {
        true => "without a name".into(),
        false => clean.take(LONGEST).collect(),
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Rejects inconsistent graphs before anything relies on them: the passes, and ONNX Runtime, which does not check
//! everything that a graph declares.
//!
//! In a valid graph, tensors have the declared size, nodes are in topological order and have the inputs, attributes and
//! element types that their operators require, and names are unique. These are the rules of ONNX's specification
//! (`docs/IR.md`), as far as they can be checked without shapes.

mod attributes;
mod operators;
mod schemas;
mod tensors;
mod types;

use crate::ops::DOMAIN;
use std::collections::HashSet;

use self::types::Types;
use crate::{Graph, GraphError, NodeProto, TensorProto, ValueInfoProto, ir::graph::is_onnx_domain, onnx::GraphProto};

/// Maximum nesting of branches and loops. Exports of speech models have none, voice activity detectors two or three.
const MAX_NESTING: usize = 8;

/// Rejects `graph` if it is inconsistent. `has_custom_ops`: whether custom operators are allowed.
pub(crate) fn validate(graph: &Graph, has_custom_ops: bool) -> Result<(), GraphError> {
    for set in &graph.header.opset_import {
        if set.version() < 1 {
            return Err(corrupt(format!(
                "its opset of \"{}\" is {}, expected 1 or newer",
                set.domain(),
                set.version()
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
        opset: graph.opset(),
    };
    check(&parts, (&HashSet::new(), &Types::new()), 0, rules)
}

fn corrupt(what: String) -> GraphError {
    GraphError::Damaged { what }
}

/// What a graph may contain.
#[derive(Clone, Copy)]
struct Rules {
    has_custom_ops: bool,
    /// Version of ONNX's own operators.
    opset: i64,
}

/// The parts of a graph or subgraph.
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

/// `outer` and `outer_types`: names and types that a subgraph sees of the graph around it.
fn check(
    graph: &Parts<'_>,
    (outer, outer_types): (&HashSet<&str>, &Types<'_>),
    depth: usize,
    rules: Rules,
) -> Result<(), GraphError> {
    if depth > MAX_NESTING {
        return Err(corrupt(format!(
            "its branches and loops are nested more than {MAX_NESTING} levels deep"
        )));
    }
    let (mut known, mut types) = (outer.clone(), outer_types.clone());
    let mut weights = HashSet::new();
    for tensor in graph.initializers {
        tensors::check(tensor)?;
        if !weights.insert(tensor.name()) {
            return Err(duplicate("weight", tensor.name()));
        }
        types::record_weight(tensor, &mut types);
    }
    let mut inputs = HashSet::new();
    for input in graph.inputs {
        if !inputs.insert(input.name()) {
            return Err(duplicate("input", input.name()));
        }
        types::record_input(input, &mut types);
    }
    known.extend(weights);
    known.extend(inputs);
    // A subgraph may shadow a name of the graph around it.
    let mut own: HashSet<&str> = known.difference(outer).copied().collect();
    for node in graph.nodes {
        check_node(node, (&known, &mut types), depth, rules)?;
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            if !own.insert(output) {
                return Err(duplicate("tensor", output));
            }
            known.insert(output);
        }
    }
    let mut outputs = HashSet::new();
    for output in graph.outputs {
        if !known.contains(output.name()) {
            return Err(corrupt(format!("its output {} is not defined", shown(output.name()))));
        }
        if !outputs.insert(output.name()) {
            return Err(duplicate("output", output.name()));
        }
    }
    for value in graph.outputs.iter().chain(graph.value_info) {
        let checked = types::check_declared(value, &types);
        checked.map_err(|what| corrupt(format!("its tensor {} {what}", shown(value.name()))))?;
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
        return Err(corrupt(format!("{} has no operator", named())));
    }
    let domain = node.domain();
    let is_custom_op = rules.has_custom_ops && domain == DOMAIN;
    if !is_onnx_domain(domain) && !domain.starts_with("com.microsoft") && !is_custom_op {
        return Err(GraphError::Operator {
            operator: shown(node.op_type()),
            domain: shown(domain),
        });
    }
    if node.output.iter().all(String::is_empty) {
        return Err(corrupt(format!("{} has no outputs", named())));
    }
    operators::check(node, rules.opset).map_err(|what| corrupt(format!("{} {what}", named())))?;
    let unknown = node
        .input
        .iter()
        .find(|name| !name.is_empty() && !known.contains(name.as_str()));
    if let Some(unknown) = unknown {
        return Err(corrupt(format!(
            "{} has input {}, which is not defined before it",
            named(),
            shown(unknown)
        )));
    }
    attributes::check(node).map_err(|what| corrupt(format!("{} {what}", named())))?;
    types::check(node, types).map_err(|what| corrupt(format!("{} {what}", named())))?;
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

fn duplicate(what: &str, name: &str) -> GraphError {
    corrupt(format!("it has more than one {what} {}", shown(name)))
}

/// A name from a corrupt file, shortened and without control characters.
fn shown(name: &str) -> String {
    const MAX_CHARS: usize = 80;
    let clean = name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    match name.is_empty() {
        true => "without a name".into(),
        false => clean.take(MAX_CHARS).collect(),
    }
}

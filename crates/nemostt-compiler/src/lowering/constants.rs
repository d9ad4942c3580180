// SPDX-License-Identifier: MIT OR Apache-2.0

//! What depends on constants only: a graph of its own, which is computed once.

use std::collections::HashSet;

use crate::{
    Encoded, Graph,
    ir::{attribute::Attribute, boundary::Side, graph::is_onnx_domain},
    ops::DOMAIN,
};

/// Tensors that depend on constants only.
pub(super) fn constant_tensors(graph: &Graph) -> HashSet<&str> {
    let mut constant: HashSet<&str> = graph.initializers.iter().map(|weight| weight.name()).collect();
    for node in &graph.nodes {
        let mut inputs = node.input.iter().filter(|input| !input.is_empty());
        if is_onnx_domain(node.domain()) && inputs.all(|input| constant.contains(input.as_str())) {
            // An empty name stands for an omitted output.
            constant.extend(
                node.output
                    .iter()
                    .map(String::as_str)
                    .filter(|output| !output.is_empty()),
            );
        }
    }
    constant
}

/// The constants that custom operations are created with, in the order of their first use.
pub(super) fn constants_read(graph: &Graph, constant: &HashSet<&str>) -> Vec<String> {
    let custom_ops = graph.nodes.iter().filter(|node| node.domain() == DOMAIN);
    let mut seen = HashSet::new();
    let names = custom_ops.flat_map(|node| &node.input).map(String::as_str);
    let read = names.filter(|name| constant.contains(name) && seen.insert(*name));
    read.map(String::from).collect()
}

/// A graph that computes `constants`. Its outputs have their names; constants of the graph itself pass through a node, because
/// an output must be written by one.
pub(super) fn constants_graph(graph: &Graph, constants: &[String]) -> Result<Encoded, String> {
    let mut folded = graph.clone();
    folded.inputs.clear();
    folded.outputs.clear();
    for name in constants {
        let element = folded
            .element_of(name)
            .ok_or_else(|| format!("the type of constant {name} is unknown"))?;
        if folded.is_constant(name) {
            let inner = folded.new_name("given");
            let Some(mut tensor) = folded.weight(name).cloned() else {
                continue;
            };
            tensor.name = Some(inner.clone());
            folded.add_weight(tensor);
            folded.initializers.retain(|weight| weight.name() != name);
            folded.rename_uses(name, &inner);
            folded.add_as(name, "Identity", &[&inner], &[] as &[(&str, Attribute<'_>)]);
        }
        folded.declare_unshaped(Side::Output, name, element);
    }
    folded.prune();
    folded.packed.clear();
    folded.header.opset_import.retain(|set| is_onnx_domain(set.domain()));
    Ok(folded.encode())
}

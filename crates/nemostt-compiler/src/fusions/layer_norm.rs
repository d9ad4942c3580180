// SPDX-License-Identifier: MIT OR Apache-2.0

//! Layer normalizations, and the SiLU that follows the one in a convolution module.

use crate::ops::{EPSILON, LAYER_NORM, SILU};
use crate::{
    Graph,
    fusions::patterns::PatternMatcher,
    ir::{
        attribute::Attribute,
        constant::{attribute, axis_of},
        def_use::DefUse,
    },
};

/// ONNX's default.
const DEFAULT_EPSILON: f32 = 1e-5;

/// Replaces layer normalizations by [`LAYER_NORM`] and returns their number.
pub(crate) fn fuse(graph: &mut Graph) -> usize {
    let index = graph.index();
    let found: Vec<Found> = graph.find_all(&index, find);
    for found in &found {
        graph.detach(found.last);
        let inputs: Vec<&str> = found.inputs.iter().map(String::as_str).collect();
        let attributes = [
            (EPSILON, Attribute::Float(found.epsilon)),
            (SILU, Attribute::Int(found.silu.into())),
        ];
        crate::fusions::patterns::add(graph, LAYER_NORM.name, &[&found.output], &inputs, &attributes);
    }
    found.len()
}

struct Found {
    inputs: Vec<String>,
    epsilon: f32,
    silu: bool,
    /// The node that produces `output`.
    last: usize,
    output: String,
}

fn find(graph: &Graph, index: &DefUse, number: usize) -> Option<Found> {
    let node = &graph.nodes[number];
    let ([data, scale, bias], [output]) = (&node.input[..], &node.output[..]) else {
        return None;
    };
    let &[width] = graph.shape(scale)? else { return None };
    let over_last_axis = match (attribute(node, "axis"), graph.shape(data)) {
        (None | Some(-1), _) => true,
        (Some(axis), Some(dims)) => axis_of(axis, dims.len()) == dims.len().checked_sub(1),
        (Some(_), None) => false,
    };
    let fits = [scale, bias]
        .iter()
        .all(|table| graph.is_constant(table) && graph.shape(table) == Some(&[width]));
    let is_float32 = attribute(node, "stash_type").is_none_or(|kind| kind == 1);
    if node.op_type() != "LayerNormalization" || !fits || !over_last_axis || !is_float32 {
        return None;
    }
    let epsilon = node.attribute.iter().find(|attribute| attribute.name() == "epsilon");
    let matcher = PatternMatcher { graph, index };
    let match_silu = match_silu(&matcher, output);
    let last = match_silu.unwrap_or(number);
    Some(Found {
        inputs: [data, scale, bias].map(String::clone).into(),
        epsilon: epsilon.map_or(DEFAULT_EPSILON, |attribute| attribute.f()),
        silu: match_silu.is_some(),
        last,
        output: graph.nodes[last].output[0].clone(),
    })
}

/// The node that produces `x · sigmoid(x)`, if `x` has no other consumer.
fn match_silu(matcher: &PatternMatcher<'_>, x: &str) -> Option<usize> {
    let &[a, b] = matcher.index.consumers(x) else {
        return None;
    };
    let is_product = |&user: &usize| {
        matcher
            .graph
            .nodes
            .get(user)
            .is_some_and(|node| node.op_type() == "Mul")
    };
    let product = [a, b].into_iter().find(is_product)?;
    let (sigmoid, other) = matcher.operand_produced_by(&matcher.graph.nodes[product], "Sigmoid")?;
    let is_gate =
        other == x && sigmoid.input[0] == x && matcher.consumed_by(&sigmoid.output[0], "Mul") == Some(product);
    is_gate.then_some(product)
}

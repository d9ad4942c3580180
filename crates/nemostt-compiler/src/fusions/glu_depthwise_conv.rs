// SPDX-License-Identifier: MIT OR Apache-2.0

//! The part of a convolution module between its matrix products: GLU and causal depthwise convolution, 12 nodes, half
//! of which transpose or reshape. The kernel keeps channels last, as the matrix products do, and transposes nothing.

use crate::NodeProto;
use crate::ops::GLU_DEPTHWISE_CONV;
use crate::{
    Graph,
    fusions::patterns::PatternMatcher,
    ir::{
        constant::{Constant, attribute, attribute_list},
        def_use::DefUse,
    },
};

/// Replaces each by one [`GLU_DEPTHWISE_CONV`] and returns their number.
pub(crate) fn fuse(graph: &mut Graph) -> usize {
    let index = graph.index();
    let found: Vec<Found> = graph.find_all(&index, find);
    for found in &found {
        for node in [found.last, found.slice] {
            graph.detach(node);
        }
        let bias = match &found.bias {
            Some(bias) => bias.clone(),
            None => graph.add_value(&Constant::from_floats(vec![found.channels], &vec![0.0; found.channels])),
        };
        let inputs = [&found.rows, &found.cache, &found.weights, &bias].map(String::as_str);
        crate::fusions::patterns::add(
            graph,
            GLU_DEPTHWISE_CONV.name,
            &[&found.output, &found.next],
            &inputs,
            &[],
        );
    }
    found.len()
}

struct Found {
    rows: String,
    cache: String,
    weights: String,
    bias: Option<String>,
    channels: usize,
    /// The node that produces `output`, \[frames, channels\].
    last: usize,
    output: String,
    /// The node that produces `next`.
    slice: usize,
    next: String,
}

fn find(graph: &Graph, index: &DefUse, number: usize) -> Option<Found> {
    let matcher = PatternMatcher { graph, index };
    let conv = &graph.nodes[number];
    let weights = conv.input.get(1)?;
    let &[channels, 1, 1, kernel] = graph.shape(weights).filter(|_| graph.is_constant(weights))? else {
        return None;
    };
    if conv.op_type() != "Conv" || !is_plain(conv, channels) {
        return None;
    }
    // Not known if the convolution is inconsistent.
    graph.shape(conv.output.first()?)?;
    let joined = matcher.produced_by(&matcher.produced_by(&conv.input[0], "Reshape")?.input[0], "Concat")?;
    let [cache, gated] = &joined.input[..] else { return None };
    let gating = matcher.produced_by(gated, "Mul")?;
    let (sigmoid, values) = matcher.operand_produced_by(gating, "Sigmoid")?;
    let split = matcher.produced_by(values, "Split")?;
    let transposed = matcher.transpose_input(&split.input[0], &[0, 2, 1])?;
    let rows = matcher.produced_by(transposed, "Reshape")?;
    let &[1, frames, both] = &graph.value(&rows.input[1])?.ints()?[..] else {
        return None;
    };
    let left = kernel.checked_sub(1)?;
    let halves = split.output.len() == 2 && split.output[0] == *values && split.output[1] == sigmoid.input[0];
    let is_glu = halves
        && both == 2 * channels as i64
        && attribute(split, "axis") == Some(1)
        && matches!(attribute(joined, "axis"), Some(-1 | 2))
        && graph.shape(cache) == Some(&[1, channels, left])
        && matcher.depends_on_input(cache);
    if !is_glu {
        return None;
    }

    // Besides the convolution, only the slice that is the next cache reads the frames.
    let joined = &joined.output[0];
    let [a, b] = index.consumers(joined) else { return None };
    let mut consumers = [*a, *b].into_iter();
    let slice = consumers.find(|&user| graph.nodes.get(user).is_some_and(|node| node.op_type() == "Slice"))?;
    let cut = &graph.nodes[slice];
    let number = |input: usize| graph.value(cut.input.get(input)?)?.int();
    let (start, end, axis) = (number(1)?, number(2)?, number(3)?);
    let step = if cut.input.len() > 4 { number(4)? } else { 1 };
    let all = left as i64 + frames;
    let is_next = (start == frames || start == -(left as i64)) && end >= all && matches!(axis, -1 | 2) && step == 1;

    let reshape = matcher.consumed_by(&conv.output[0], "Reshape")?;
    let transpose = matcher.consumed_by(&graph.nodes[reshape].output[0], "Transpose")?;
    let last = matcher.consumed_by(&graph.nodes[transpose].output[0], "Reshape")?;
    let sizes = graph.value(&graph.nodes[last].input[1])?.ints()?;
    let is_rows = sizes == [frames, channels as i64];
    let is_transposed = attribute_list(&graph.nodes[transpose], "perm")? == [0, 2, 1];
    (is_next && is_rows && is_transposed).then(|| Found {
        rows: rows.input[0].clone(),
        cache: cache.clone(),
        weights: weights.clone(),
        bias: conv.input.get(2).filter(|bias| !bias.is_empty()).cloned(),
        channels,
        last,
        output: graph.nodes[last].output[0].clone(),
        slice,
        next: cut.output[0].clone(),
    })
}

/// Whether this is a depthwise convolution without stride, dilation and padding.
fn is_plain(conv: &NodeProto, channels: usize) -> bool {
    let all = |name: &str, value: i64| attribute_list(conv, name).is_none_or(|list| list.iter().all(|&v| v == value));
    attribute(conv, "group") == Some(channels as i64) && all("strides", 1) && all("dilations", 1) && all("pads", 0)
}

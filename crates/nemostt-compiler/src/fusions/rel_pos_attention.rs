// SPDX-License-Identifier: MIT OR Apache-2.0

//! A layer's attention between its matrix products: the 20 nodes that `cache_projected_kv`, `rel_shift_to_gather` and
//! `simplify_masks` leave of it. The kernel computes them in one pass per head.

use crate::ops::{REL_POS_ATTENTION, SCALE};
use crate::{
    Graph,
    fusions::patterns::PatternMatcher,
    ir::{
        attribute::Attribute,
        constant::{attribute, attribute_list},
        def_use::DefUse,
    },
};

/// Indices of the inputs of [`REL_POS_ATTENTION`] that are caches: keys and values.
pub(crate) const CACHE_INPUTS: [usize; 2] = [1, 3];

/// The graph's input \[1\] with the ring head: the index of the oldest row of each cache. Rows are ordered in time from
/// there on, wrapping around. A step overwrites the oldest rows with the new ones, so that no row has to be moved.
pub const RING_HEAD_INPUT: &str = "cache_ring_head";

/// Replaces the attention of each layer by one [`REL_POS_ATTENTION`] and returns their number.
pub(crate) fn fuse(graph: &mut Graph) -> usize {
    let index = graph.index();
    let found: Vec<Found> = graph.find_all(&index, find);
    for found in &found {
        found.producers.iter().for_each(|&node| graph.detach(node));
        let inputs: Vec<&str> = found
            .inputs
            .iter()
            .map(String::as_str)
            .chain([RING_HEAD_INPUT])
            .collect();
        let outputs = found.outputs.each_ref().map(String::as_str);
        for (cache, next) in CACHE_INPUTS.iter().zip(&outputs[1..]) {
            if let Some(dims) = graph.shape(&found.inputs[*cache]).map(<[usize]>::to_vec) {
                graph.fix_output(next, &dims);
            }
        }
        let scale = [(SCALE, Attribute::Float(found.scale))];
        crate::fusions::patterns::add(graph, REL_POS_ATTENTION.name, &outputs, &inputs, &scale);
    }
    if !found.is_empty() {
        graph.add_scalar_input(RING_HEAD_INPUT);
    }
    found.len()
}

struct Found {
    inputs: Vec<String>,
    scale: f32,
    /// The output \[frames, heads · head width\], and the new rows of the caches of keys and values.
    outputs: [String; 3],
    /// The nodes that produce them.
    producers: [usize; 3],
}

fn find(graph: &Graph, index: &DefUse, number: usize) -> Option<Found> {
    let softmax = &graph.nodes[number];
    let last_axis = matches!(attribute(softmax, "axis"), None | Some(-1 | 3));
    if softmax.op_type() != "Softmax" || !last_axis {
        return None;
    }
    let matcher = PatternMatcher { graph, index };
    let masked = matcher.produced_by(&softmax.input[0], "Add")?;
    let (divided, mask) = matcher.operand_produced_by(masked, "Div")?;
    let scale = graph.value(&divided.input[1])?.floats()?;
    let &[scale] = &scale[..] else { return None };
    let scores = matcher.produced_by(&divided.input[0], "Add")?;
    let (joined, shifted) = matcher.operand_produced_by(scores, "Concat")?;
    let gather = matcher.produced_by(shifted, "Gather")?;

    // Content scores: queries · keys, cached and new.
    if attribute(joined, "axis") != Some(3) || attribute(gather, "axis") != Some(2) {
        return None;
    }
    let [old, new] = &joined.input[..] else { return None };
    let [old, new] = [matcher.produced_by(old, "MatMul")?, matcher.produced_by(new, "MatMul")?];
    let [old_keys, new_keys] = [old, new].map(|product| matcher.transpose_input(&product.input[1], &[0, 1, 3, 2]));
    let (old_keys, new_keys) = (old_keys?, new_keys?);
    let (queries, bias_u) = query(&matcher, &old.input[0])?;
    if old.input[0] != new.input[0] {
        return None;
    }

    // Position scores: queries · position table, gathered by relative shift.
    let places = &gather.input[1];
    let &[frames, keys] = graph.shape(places).filter(|_| graph.is_constant(places))? else {
        return None;
    };
    let by_position = matcher.produced_by(&matcher.produced_by(&gather.input[0], "Reshape")?.input[0], "MatMul")?;
    let (same_queries, bias_v) = query(&matcher, &by_position.input[0])?;
    let positions = &by_position.input[1];
    let bias_shapes = [&bias_u, &bias_v].map(|bias| graph.shape(bias));
    let &[heads, width] = bias_shapes[0]? else { return None };
    if same_queries != queries || bias_shapes[1] != bias_shapes[0] || matcher.depends_on_input(positions) {
        return None;
    }

    // The weighted sum of values, cached and new.
    let split = matcher.consumed_by(&softmax.output[0], "Split")?;
    let sizes = graph.value(graph.nodes[split].input.get(1)?)?.ints()?;
    let [old_weights, new_weights] = &graph.nodes[split].output[..] else {
        return None;
    };
    let parts = [
        matcher.consumed_by(old_weights, "MatMul")?,
        matcher.consumed_by(new_weights, "MatMul")?,
    ];
    let [old_part, new_part] = parts.map(|part| &graph.nodes[part]);
    let sum = matcher.consumed_by(&old_part.output[0], "Add")?;
    let transpose = matcher.consumed_by(&graph.nodes[sum].output[0], "Transpose")?;
    let mut last = matcher.consumed_by(&graph.nodes[transpose].output[0], "Reshape")?;
    let rows = [frames as i64, (heads * width) as i64];
    let sizes_of = |reshape: usize| graph.value(&graph.nodes[reshape].input[1])?.ints();
    if sizes_of(last)? != rows {
        // First with the batch axis, then without it.
        last = matcher.consumed_by(&graph.nodes[last].output[0], "Reshape")?;
    }
    let part_outputs = [new_part.output[0].as_str(), old_part.output[0].as_str()];
    let sums_both = part_outputs
        .iter()
        .all(|part| graph.nodes[sum].input.iter().any(|input| input == part));
    let is_attention = sums_both
        && attribute(&graph.nodes[split], "axis") == Some(3)
        && sizes == [(keys.checked_sub(frames)?) as i64, frames as i64]
        && old_part.input[0] == *old_weights
        && new_part.input[0] == *new_weights
        && attribute_list(&graph.nodes[transpose], "perm")? == [0, 2, 1, 3]
        && sizes_of(last)? == rows;
    let (new_keys, new_values) = (new_keys.as_str(), new_part.input[1].as_str());
    let sizes = [1, frames as i64, heads as i64, width as i64];
    let [key_rows, value_rows] = [new_keys, new_values].map(|new| head_rows(&matcher, new, sizes));
    let ((key_rows, keys_node), (value_rows, values_node)) = (key_rows?, value_rows?);
    // The kernel requires that the positions of a frame are consecutive.
    let position_indices = graph.value(places)?.ints()?;
    let follow = |frame: &[i64]| frame.windows(2).all(|pair| pair[1] == pair[0] + 1);
    let in_order = position_indices.chunks(keys).all(follow);
    let inputs = [
        &queries,
        old_keys,
        key_rows,
        &old_part.input[1],
        value_rows,
        mask,
        &bias_u,
        &bias_v,
        positions,
        places,
    ];
    let output = graph.nodes[last].output[0].as_str();
    (is_attention && in_order).then(|| Found {
        inputs: inputs.map(String::clone).into(),
        scale,
        outputs: [output, new_keys, new_values].map(str::to_owned),
        producers: [last, keys_node, values_node],
    })
}

/// Queries and bias of `Transpose(Reshape(queries) + bias)`.
fn query(matcher: &PatternMatcher<'_>, name: &str) -> Option<(String, String)> {
    let with_bias = matcher.produced_by(matcher.transpose_input(name, &[0, 2, 1, 3])?, "Add")?;
    let (reshape, bias) = matcher.operand_produced_by(with_bias, "Reshape")?;
    matcher
        .graph
        .is_constant(bias)
        .then(|| (reshape.input[0].clone(), bias.clone()))
}

/// The rows of `name` = `Transpose(Reshape(rows))`, which splits them into heads, and the index of the transpose.
fn head_rows<'a>(matcher: &PatternMatcher<'a>, name: &str, sizes: [i64; 4]) -> Option<(&'a String, usize)> {
    let reshape = matcher.produced_by(matcher.transpose_input(name, &[0, 2, 1, 3])?, "Reshape")?;
    let splits_heads = matcher.graph.value(&reshape.input[1])?.ints()? == sizes;
    splits_heads.then_some((&reshape.input[0], matcher.index.producer(name)?))
}

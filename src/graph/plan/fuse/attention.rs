// SPDX-License-Identifier: MIT OR Apache-2.0

//! What `plan/attention.rs`, `positions.rs` and `masks.rs` leave of a layer's attention between its products: 20 nodes.
//! [`crate::kernels::attention`] does what they do, in one pass for each head.

use super::{
    super::{
        net::{Attribute, Index, Net},
        value::{attribute, attribute_list},
    },
    Walk,
};

/// The operation. Inputs: queries \[frames, width\], cached and new keys, cached and new values \[1, heads, …, width of a head\],
/// mask \[1, 1, frames, keys\]; constants: the two biases \[heads, width of a head\], positions \[1, heads, width of a head,
/// positions\], places \[frames, keys\]. Output \[frames, width\]. Attribute [`SCALE`].
pub(crate) const ATTENTION: &str = "Attention";

/// What scores are divided by.
pub(crate) const SCALE: &str = "scale";

/// Makes each layer's attention one operation, and gives the number of layers.
pub(super) fn fuse(net: &mut Net) -> usize {
    let index = net.index();
    let found: Vec<Found> = net.find_all(&index, find);
    for found in &found {
        net.retire(found.last);
        let inputs: Vec<&str> = found.inputs.iter().map(String::as_str).collect();
        let scale = [(SCALE, Attribute::Float(found.scale))];
        super::add(net, ATTENTION, &[&found.output], &inputs, &scale);
    }
    found.len()
}

struct Found {
    inputs: Vec<String>,
    scale: f32,
    /// The node that gives `output`, rows of all heads side by side.
    last: usize,
    output: String,
}

fn find(net: &Net, index: &Index, number: usize) -> Option<Found> {
    let softmax = &net.nodes[number];
    let last_axis = matches!(attribute(softmax, "axis"), None | Some(-1 | 3));
    if softmax.op_type() != "Softmax" || !last_axis {
        return None;
    }
    let walk = Walk { net, index };
    let masked = walk.made(&softmax.input[0], "Add")?;
    let (divided, mask) = walk.one_made(masked, "Div")?;
    let scale = net.value(&divided.input[1])?.floats()?;
    let &[scale] = &scale[..] else { return None };
    let scores = walk.made(&divided.input[0], "Add")?;
    let (joined, shifted) = walk.one_made(scores, "Concat")?;
    let gather = walk.made(shifted, "Gather")?;

    // Contents.
    if attribute(joined, "axis") != Some(3) || attribute(gather, "axis") != Some(2) {
        return None;
    }
    let [old, new] = &joined.input[..] else { return None };
    let [old, new] = [walk.made(old, "MatMul")?, walk.made(new, "MatMul")?];
    let [old_keys, new_keys] = [old, new].map(|product| walk.turned(&product.input[1], &[0, 1, 3, 2]));
    let (old_keys, new_keys) = (old_keys?, new_keys?);
    let (queries, bias_u) = query(&walk, &old.input[0])?;
    if old.input[0] != new.input[0] {
        return None;
    }

    // Positions.
    let places = &gather.input[1];
    let &[frames, keys] = net.shape(places).filter(|_| net.is_constant(places))? else {
        return None;
    };
    let by_position = walk.made(&walk.made(&gather.input[0], "Reshape")?.input[0], "MatMul")?;
    let (same_queries, bias_v) = query(&walk, &by_position.input[0])?;
    let positions = &by_position.input[1];
    let of_biases = [&bias_u, &bias_v].map(|bias| net.shape(bias));
    let &[heads, width] = of_biases[0]? else { return None };
    if same_queries != queries || of_biases[1] != of_biases[0] || walk.varies(positions) {
        return None;
    }

    // Values.
    let split = walk.taken(&softmax.output[0], "Split")?;
    let sizes = net.value(net.nodes[split].input.get(1)?)?.ints()?;
    let [old_weights, new_weights] = &net.nodes[split].output[..] else {
        return None;
    };
    let parts = [walk.taken(old_weights, "MatMul")?, walk.taken(new_weights, "MatMul")?];
    let [old_part, new_part] = parts.map(|part| &net.nodes[part]);
    let sum = walk.taken(&old_part.output[0], "Add")?;
    let turned = walk.taken(&net.nodes[sum].output[0], "Transpose")?;
    let mut last = walk.taken(&net.nodes[turned].output[0], "Reshape")?;
    let rows = [frames as i64, (heads * width) as i64];
    let sizes_of = |reshape: usize| net.value(&net.nodes[reshape].input[1])?.ints();
    if sizes_of(last)? != rows {
        // First with a batch axis, then without.
        last = walk.taken(&net.nodes[last].output[0], "Reshape")?;
    }
    let of_parts = [new_part.output[0].as_str(), old_part.output[0].as_str()];
    let sums_both = of_parts
        .iter()
        .all(|part| net.nodes[sum].input.iter().any(|input| input == part));
    let right = sums_both
        && attribute(&net.nodes[split], "axis") == Some(3)
        && sizes == [(keys.checked_sub(frames)?) as i64, frames as i64]
        && old_part.input[0] == *old_weights
        && new_part.input[0] == *new_weights
        && attribute_list(&net.nodes[turned], "perm")? == [0, 2, 1, 3]
        && sizes_of(last)? == rows;
    let inputs = [
        &queries,
        old_keys,
        new_keys,
        &old_part.input[1],
        &new_part.input[1],
        mask,
        &bias_u,
        &bias_v,
        positions,
        places,
    ];
    right.then(|| Found {
        inputs: inputs.map(String::clone).into(),
        scale,
        last,
        output: net.nodes[last].output[0].clone(),
    })
}

/// Queries and what was added to them, from `Transpose(Reshape(queries) + bias)`.
fn query(walk: &Walk<'_>, name: &str) -> Option<(String, String)> {
    let with_bias = walk.made(walk.turned(name, &[0, 2, 1, 3])?, "Add")?;
    let (cut, bias) = walk.one_made(with_bias, "Reshape")?;
    walk.net.is_constant(bias).then(|| (cut.input[0].clone(), bias.clone()))
}

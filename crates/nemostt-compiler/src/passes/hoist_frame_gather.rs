// SPDX-License-Identifier: MIT OR Apache-2.0

//! Takes the frames of a chunk before the last product of the subsampling, not behind it: what is dropped needs none.

use crate::{
    ir::{
        constant::attribute,
        net::{Attribute, DefUse, Net},
    },
    passes::DROP_INPUT,
};

/// Does so where it can be done; says whether it was.
pub(crate) fn hoist_frame_gather(net: &mut Net) -> bool {
    let index = net.index();
    let found = net.find_all(&index, find);
    for found in &found {
        let data = net.nodes[found.product].input[0].clone();
        let taken = net.add("Gather", &[&data, &found.frames], &[("axis", Attribute::Int(1))]);
        net.nodes[found.product].input[0] = taken;
        net.detach(found.gather);
        net.nodes[found.sum].output[0].clone_from(&found.output);
        // What comes of fewer frames has fewer of them.
        if let Some(dims) = net.shape(&found.output).map(<[usize]>::to_vec) {
            let product = net.nodes[found.product].output[0].clone();
            net.shapes.insert(product, dims);
        }
    }
    net.remove_dead();
    let _ = net.sort(); // no circle was made
    !found.is_empty()
}

struct Found {
    /// The node that takes frames, of a product and its bias.
    gather: usize,
    product: usize,
    sum: usize,
    /// Which frames.
    frames: String,
    /// What the gather gives.
    output: String,
}

fn find(net: &Net, index: &DefUse, number: usize) -> Option<Found> {
    let gather = &net.nodes[number];
    let ("Gather", [data, frames]) = (gather.op_type(), &gather.input[..]) else {
        return None;
    };
    let chosen = &net.nodes[index.producer(frames)?];
    let drops = chosen.op_type() == "Add" && chosen.input.iter().any(|input| input == DROP_INPUT);
    let &[1, _, _] = net.shape(data)? else { return None };
    if !drops || attribute(gather, "axis") != Some(1) || index.single_consumer(data) != Some(number) {
        return None;
    }
    let sum = index.producer(data)?;
    let bias = |input: &&String| net.is_constant(input) && net.shape(input).is_some_and(|dims| dims.len() == 1);
    let node = &net.nodes[sum];
    let product = node.input.iter().find(|input| !bias(input))?;
    let is_sum = node.op_type() == "Add" && node.input.iter().any(|input| bias(&input));
    let producer = index.producer(product)?;
    let node = &net.nodes[producer];
    let is_product = node.op_type() == "MatMul"
        && net.is_constant(&node.input[1])
        && net.shape(&node.input[1]).is_some_and(|dims| dims.len() == 2)
        && index.single_consumer(product) == Some(sum);
    (is_sum && is_product).then(|| Found {
        gather: number,
        product: producer,
        sum,
        frames: frames.clone(),
        output: gather.output[0].clone(),
    })
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Saves copies in the subsampling in front of the layers, where tensors are largest: padding becomes a parameter of the
//! convolution behind it, and a mask is broadcast where it is used.

use crate::ir::{
    constant::attribute_list,
    net::{Attribute, DefUse, Net},
};

/// Rewrites all such places, and returns how many there were.
pub(crate) fn fold_padding(net: &mut Net) -> usize {
    let index = net.index();
    let mut count = 0;
    for number in 0..net.nodes.len() {
        let done = match net.nodes[number].op_type() {
            "Conv" => absorb_padding(net, &index, number),
            "Mul" => broadcast_mask(net, &index, number),
            _ => None,
        };
        count += usize::from(done.is_some());
    }
    net.remove_dead();
    count
}

/// Zeros around the input of a convolution.
fn absorb_padding(net: &mut Net, index: &DefUse, number: usize) -> Option<()> {
    let conv = &net.nodes[number];
    let padded = conv.input.first()?;
    let pad = &net.nodes[index.producer(padded)?];
    if pad.op_type() != "Pad" || conv.attribute.iter().any(|a| a.name() == "auto_pad") {
        return None;
    }
    // It fills in zeros, and is no other kind of padding.
    net.movement(pad)?;
    let pads = net.value(&pad.input[1])?.ints()?;
    let axes = net.shape(padded)?.len();
    let [before, after] = [&pads[..axes], &pads[axes..]];
    if [before, after]
        .iter()
        .any(|pads| pads.iter().take(2).any(|&pad| pad != 0))
    {
        return None;
    }
    let spatial = [&before[2..], &after[2..]].concat();
    let own = attribute_list(conv, "pads").map_or(vec![0; spatial.len()], <[i64]>::to_vec);
    let sum: Vec<i64> = spatial.iter().zip(&own).map(|(a, b)| a + b).collect();
    let source = pad.input[0].clone();
    let node = &mut net.nodes[number];
    node.input[0] = source;
    node.attribute.retain(|a| a.name() != "pads");
    node.attribute.push(Attribute::Ints(&sum).to_proto("pads"));
    (sum.len() == own.len()).then_some(())
}

/// A product with something that was repeated to the shape of the other factor.
fn broadcast_mask(net: &mut Net, index: &DefUse, number: usize) -> Option<()> {
    let node = &net.nodes[number];
    let shape = net.shape(&node.output[0])?.to_vec();
    for (factor, other) in [(0, 1), (1, 0)] {
        let Some(producer) = index.producer(&node.input[factor]) else {
            continue;
        };
        let repeat = &net.nodes[producer];
        if repeat.op_type() == "Expand" && net.shape(&node.input[other]) == Some(&shape) {
            let source = repeat.input[0].clone();
            net.nodes[number].input[factor] = source;
            return Some(());
        }
    }
    None
}

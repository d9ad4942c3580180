// SPDX-License-Identifier: MIT OR Apache-2.0

//! Avoids copies in the subsampling, where tensors are largest: padding is folded into the following convolution, and
//! masks are broadcast instead of expanded.

use crate::Graph;
use crate::ir::{attribute::Attribute, constant::attribute_list, def_use::DefUse};

/// Rewrites all such nodes; returns their number.
pub(crate) fn fold_padding(graph: &mut Graph) -> usize {
    let index = graph.index();
    let mut count = 0;
    for number in 0..graph.nodes.len() {
        let done = match graph.nodes[number].op_type() {
            "Conv" => absorb_padding(graph, &index, number),
            "Mul" => broadcast_mask(graph, &index, number),
            _ => None,
        };
        count += usize::from(done.is_some());
    }
    graph.remove_dead();
    count
}

/// Folds a `Pad` into the convolution that reads it.
fn absorb_padding(graph: &mut Graph, index: &DefUse, number: usize) -> Option<()> {
    let conv = &graph.nodes[number];
    let padded = conv.input.first()?;
    let pad = &graph.nodes[index.producer(padded)?];
    if pad.op_type() != "Pad" || conv.attribute.iter().any(|a| a.name() == "auto_pad") {
        return None;
    }
    // Only constant padding with zeros is data movement.
    graph.movement(pad)?;
    let pads = graph.value(&pad.input[1])?.ints()?;
    let axes = graph.shape(padded)?.len();
    let [before, after] = [&pads[..axes], &pads[axes..]];
    if [before, after]
        .iter()
        .any(|pads| pads.iter().take(2).any(|&pad| pad != 0))
    {
        return None;
    }
    let spatial = [&before[2..], &after[2..]].concat();
    let conv_pads = attribute_list(conv, "pads").map_or(vec![0; spatial.len()], <[i64]>::to_vec);
    let sum: Vec<i64> = spatial.iter().zip(&conv_pads).map(|(a, b)| a + b).collect();
    let source = pad.input[0].clone();
    let node = &mut graph.nodes[number];
    node.input[0] = source;
    node.attribute.retain(|a| a.name() != "pads");
    node.attribute.push(Attribute::Ints(&sum).to_proto("pads"));
    (sum.len() == conv_pads.len()).then_some(())
}

/// Reads a mask before its expansion to the shape of the other factor.
fn broadcast_mask(graph: &mut Graph, index: &DefUse, number: usize) -> Option<()> {
    let node = &graph.nodes[number];
    let shape = graph.shape(&node.output[0])?.to_vec();
    for (factor, other) in [(0, 1), (1, 0)] {
        let Some(producer) = index.producer(&node.input[factor]) else {
            continue;
        };
        let repeat = &graph.nodes[producer];
        if repeat.op_type() == "Expand" && graph.shape(&node.input[other]) == Some(&shape) {
            let source = repeat.input[0].clone();
            graph.nodes[number].input[factor] = source;
            return Some(());
        }
    }
    None
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Selects the frames of a chunk before the last matrix multiplication of the subsampling instead of after it, so that
//! dropped frames are not multiplied.

use crate::{
    Graph,
    ir::{attribute::Attribute, constant::attribute, def_use::DefUse},
    passes::DROP_INPUT,
};

/// Rewrites all such nodes; returns whether there were any.
pub(crate) fn hoist_frame_gather(graph: &mut Graph) -> bool {
    let index = graph.index();
    let found = graph.find_all(&index, find);
    for found in &found {
        let data = graph.nodes[found.matmul].input[0].clone();
        let selected = graph.add("Gather", &[&data, &found.frames], &[("axis", Attribute::Int(1))]);
        graph.nodes[found.matmul].input[0] = selected;
        graph.detach(found.gather);
        graph.nodes[found.sum].output[0].clone_from(&found.output);
        // The result of fewer frames has fewer frames.
        if let Some(dims) = graph.shape(&found.output).map(<[usize]>::to_vec) {
            let matmul = graph.nodes[found.matmul].output[0].clone();
            graph.shapes.insert(matmul, dims);
        }
    }
    graph.remove_dead();
    let _ = graph.sort(); // the pass creates no cycle
    !found.is_empty()
}

struct Found {
    /// The node that selects frames from the sum of a matrix product and a bias.
    gather: usize,
    matmul: usize,
    sum: usize,
    /// Indices of the frames.
    frames: String,
    /// The output of the gather.
    output: String,
}

fn find(graph: &Graph, index: &DefUse, number: usize) -> Option<Found> {
    let gather = &graph.nodes[number];
    let ("Gather", [data, frames]) = (gather.op_type(), &gather.input[..]) else {
        return None;
    };
    let indices = &graph.nodes[index.producer(frames)?];
    let drops = indices.op_type() == "Add" && indices.input.iter().any(|input| input == DROP_INPUT);
    let &[1, _, _] = graph.shape(data)? else { return None };
    if !drops || attribute(gather, "axis") != Some(1) || index.single_consumer(data) != Some(number) {
        return None;
    }
    let sum = index.producer(data)?;
    let bias = |input: &&String| graph.is_constant(input) && graph.shape(input).is_some_and(|dims| dims.len() == 1);
    let node = &graph.nodes[sum];
    let matmul = node.input.iter().find(|input| !bias(input))?;
    let is_sum = node.op_type() == "Add" && node.input.iter().any(|input| bias(&input));
    let producer = index.producer(matmul)?;
    let node = &graph.nodes[producer];
    let is_matmul = node.op_type() == "MatMul"
        && graph.is_constant(&node.input[1])
        && graph.shape(&node.input[1]).is_some_and(|dims| dims.len() == 2)
        && index.single_consumer(matmul) == Some(sum);
    (is_sum && is_matmul).then(|| Found {
        gather: number,
        matmul: producer,
        sum,
        frames: frames.clone(),
        output: gather.output[0].clone(),
    })
}

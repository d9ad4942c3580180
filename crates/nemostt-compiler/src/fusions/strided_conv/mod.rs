// SPDX-License-Identifier: MIT OR Apache-2.0

//! The subsampling before the layers: strided convolutions, masks, activations and pointwise convolutions. Here all of
//! it is computed with channels last, so that nothing has to be transposed: strided convolutions by [`STRIDED_CONV`],
//! pointwise ones as matrix products.
//!
//! NeMo multiplies with a mask of zeros and ones after each convolution. Only the last mask before a strided
//! convolution has an effect: the operations in between work on each frame and frequency separately. [`STRIDED_CONV`]
//! applies that mask to its input.

mod stage;
#[cfg(test)]
mod tests;

use crate::fusions::strided_conv::stage::{Pointwise, Stage, match_masking, match_pointwise_conv, match_strided_conv};
use crate::ops::{PADS, RELU, SHARED_INPUT, STRIDED_CONV, STRIDES};
use crate::{Graph, TensorProto, onnx::tensor_proto::DataType};
use crate::{
    fusions::patterns::PatternMatcher,
    ir::{
        attribute::Attribute,
        constant::{Constant, attribute, attribute_list},
        def_use::DefUse,
    },
};

/// Rewrites the subsampling and returns whether it was found.
pub(crate) fn fuse(graph: &mut Graph) -> bool {
    graph.infer_shapes();
    let index = graph.index();
    let found = graph.find_all(&index, find);
    for found in &found {
        replace(graph, found);
    }
    !found.is_empty()
}

/// The whole subsampling.
struct Found {
    input: String,
    /// Mask of the input: see [`match_masking`].
    mask: String,
    stages: Vec<Stage>,
    /// The node that produces `output`, one row per frame.
    last: usize,
    output: String,
    /// The matrix product that reads it, and its weights with [`frequencies_first`].
    matmul: usize,
    weights: Vec<f32>,
    /// Shape of the weights.
    weights_shape: [usize; 2],
    /// Indices of the frames that are kept, if not all are.
    kept: Option<String>,
    /// Shape of the rows: frames, width.
    sizes: [usize; 2],
}

fn find(graph: &Graph, index: &DefUse, number: usize) -> Option<Found> {
    let matcher = PatternMatcher { graph, index };
    let first = &graph.nodes[number];
    let mut stages = vec![match_strided_conv(graph, first)?];
    let masked = matcher.produced_by(&first.input[0], "Mul")?;
    let (input, mask) = match_masking(&matcher, masked)?;
    if !stages[0].shared {
        return None;
    }
    let mut output = first.output.first()?;
    let transpose = loop {
        let stage = stages.last_mut()?;
        let user = index.single_consumer(output)?;
        let node = &graph.nodes[user];
        match node.op_type() {
            "Mul" => {
                let (of, mask) = match_masking(&matcher, node)?;
                if of != *output || stage.mask.as_ref().is_some_and(|known| *known != mask) {
                    return None;
                }
                stage.mask = Some(mask);
                stage.is_masked = true;
            }
            "Relu" => {
                *stage
                    .pointwise
                    .last_mut()
                    .map_or(&mut stage.relu, |last| &mut last.relu) = true;
                stage.is_masked = false;
            }
            "Conv" if node.input.first() != Some(output) => return None,
            "Conv" => match match_pointwise_conv(graph, node) {
                Some(conv) => {
                    stage.pointwise.push(conv);
                    stage.is_masked = false;
                }
                None => {
                    let next = match_strided_conv(graph, node).filter(|next| stage.is_masked && !next.shared)?;
                    stages.push(next);
                }
            },
            "Transpose" if stage.is_masked && attribute_list(node, "perm") == Some(&[0, 2, 1, 3]) => break node,
            _ => return None,
        }
        output = node.output.first()?;
    };
    let &[1, channels, frames, bins] = graph.shape(output)? else {
        return None;
    };
    // First with the batch axis, then without it. In between, a gather may keep only some of the frames.
    let width = channels * bins;
    let rows = |node: usize| graph.value(graph.nodes[node].input.get(1)?)?.ints();
    let mut last = matcher.consumed_by(&transpose.output[0], "Reshape")?;
    let (mut kept, mut kept_frames) = (None, frames);
    if rows(last)? != [frames as i64, width as i64] {
        if let Some(gather) = matcher.consumed_by(&graph.nodes[last].output[0], "Gather") {
            let gather = &graph.nodes[gather];
            let &[1, count, _] = graph.shape(&gather.output[0])? else {
                return None;
            };
            if attribute(gather, "axis") != Some(1) {
                return None;
            }
            (kept, kept_frames) = (Some(gather.input[1].clone()), count);
            last = matcher.consumed_by(&gather.output[0], "Reshape")?;
        } else {
            last = matcher.consumed_by(&graph.nodes[last].output[0], "Reshape")?;
        }
    }
    let is_rows = rows(last)? == [kept_frames as i64, width as i64];
    let output = &graph.nodes[last].output[0];
    let matmul = index.single_consumer(output)?;
    let (weights, weights_shape) = match_weights(graph, matmul, output)?;
    (is_rows && weights_shape[0] == width).then(|| Found {
        input,
        mask,
        stages,
        last,
        output: output.clone(),
        matmul,
        weights: frequencies_first(&weights, [channels, bins, weights_shape[1]]),
        weights_shape,
        kept,
        sizes: [frames, width],
    })
}

/// The constant weights that matrix product `number` multiplies `rows` with, and their shape.
fn match_weights(graph: &Graph, number: usize, rows: &str) -> Option<(Vec<f32>, [usize; 2])> {
    let node = &graph.nodes[number];
    let weights = node.input.get(1)?;
    let &[k, n] = graph.shape(weights)? else {
        return None;
    };
    let flag = |name: &str| attribute(node, name).is_some_and(|value| value != 0);
    let others = node.input.iter().skip(1).any(|input| input == rows);
    let right = matches!(node.op_type(), "MatMul" | "Gemm")
        && node.input[0] == rows
        && !others
        && !flag("transA")
        && !flag("transB");
    right.then_some((graph.value(weights)?.floats()?, [k, n]))
}

/// Reorders the rows of a weight matrix \[channels · bins, columns\] to \[bins · channels, columns\].
fn frequencies_first(table: &[f32], [channels, bins, columns]: [usize; 3]) -> Vec<f32> {
    let rows = (0..bins).flat_map(|bin| (0..channels).map(move |channel| channel * bins + bin));
    rows.flat_map(|row| &table[row * columns..][..columns])
        .copied()
        .collect()
}

fn replace(graph: &mut Graph, found: &Found) {
    let (mut data, mut mask) = (found.input.clone(), cast_mask(graph, &found.mask));
    for stage in &found.stages {
        data = convolve(graph, stage, &data, &mask);
        for conv in &stage.pointwise {
            data = multiply(graph, conv, &data);
        }
        if let Some(frames) = &stage.mask {
            mask = cast_mask(graph, frames);
        }
    }
    let sizes = found.sizes.map(|size| size as i64);
    let (rows, column) = (graph.add_ints(&sizes), graph.add_ints(&[sizes[0], 1]));
    let mut rows = graph.add("Reshape", &[&data, &rows], &[]);
    let mut column = graph.add("Reshape", &[&mask, &column], &[]);
    if let Some(kept) = &found.kept {
        for table in [&mut rows, &mut column] {
            *table = graph.add("Gather", &[table, kept], &[("axis", Attribute::Int(0))]);
        }
    }
    graph.detach(found.last);
    graph.add_as(&found.output, "Mul", &[&rows, &column], &[]);
    let weights = graph.add_value(&Constant::from_floats(found.weights_shape.into(), &found.weights));
    graph.nodes[found.matmul].input[1] = weights;
}

/// Casts a boolean mask to zeros and ones.
fn cast_mask(graph: &mut Graph, mask: &str) -> String {
    graph.add("Cast", &[mask], &[("to", Attribute::Int(DataType::Float as i64))])
}

fn convolve(graph: &mut Graph, stage: &Stage, data: &str, mask: &str) -> String {
    let bias = match &stage.bias {
        Some(bias) => bias.clone(),
        None => graph.add_value(&Constant::from_floats(vec![stage.channels], &vec![0.0; stage.channels])),
    };
    let output = graph.new_name("subsampled");
    let attributes = [
        (STRIDES, Attribute::Ints(&stage.strides)),
        (PADS, Attribute::Ints(&stage.pads)),
        (SHARED_INPUT, Attribute::Int(stage.shared.into())),
        (RELU, Attribute::Int(stage.relu.into())),
    ];
    crate::fusions::patterns::add(
        graph,
        STRIDED_CONV.name,
        &[&output],
        &[data, mask, &stage.weights, &bias],
        &attributes,
    );
    output
}

fn multiply(graph: &mut Graph, conv: &Pointwise, data: &str) -> String {
    let Some(weights) = graph.weight(&conv.weights).cloned() else {
        return data.into();
    };
    // The same bytes without the two kernel axes of size 1.
    let weights = graph.add_weight(TensorProto {
        name: Some(format!("{}/flat", conv.weights)),
        dims: conv.sizes.into(),
        ..weights
    });
    let inputs: Vec<&str> = [data, &weights].into_iter().chain(conv.bias.as_deref()).collect();
    let output = graph.add("Gemm", &inputs, &[("transB", Attribute::Int(1))]);
    match conv.relu {
        true => graph.add("Relu", &[&output], &[]),
        false => output,
    }
}

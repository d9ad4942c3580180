// SPDX-License-Identifier: MIT OR Apache-2.0

//! The subsampling in front of the layers: strided convolutions, masks, activations and convolutions of single frames and
//! frequencies. They are done with channels last here: strided ones by [`nemostt_kernels::subsampling`], the others as
//! products, and nothing is turned around.
//!
//! A mask is multiplied in after each of them; the last one before the next strided convolution is all that counts: what
//! lies between acts on each place by itself, and a mask is 0 or 1. That one is done where places are looked at beside
//! each other.

mod stage;
#[cfg(test)]
mod tests;

use crate::fusions::strided_conv::stage::{Pointwise, Stage, match_masking, match_pointwise_conv, match_strided_conv};
use crate::{TensorProto, onnx::tensor_proto::DataType};
use crate::{
    fusions::patterns::PatternMatcher,
    ir::{
        constant::{Constant, attribute, attribute_list},
        net::{Attribute, DefUse, Net},
    },
};

/// The operation. Inputs: values of frames, frequencies and channels, in this order, with any axes; mask, one for each
/// frame, where frames with 0 count as zeros; constants: weights \[channels, 1, kernel, kernel\], bias \[channels\]. Output:
/// \[frames · frequencies, channels\]. Attributes [`STRIDES`], [`PADS`], [`SHARED_INPUT`] and [`RELU`].
pub const STRIDED_CONV: &str = "StridedConv";

/// Over frames and frequencies.
pub const STRIDES: &str = "strides";

/// As ONNX has them: before the first frame and frequency, behind the last ones.
pub const PADS: &str = "pads";

/// 1 where all channels are made of the one that there is, else each of its own.
pub const SHARED_INPUT: &str = "shared_input";

/// 1 where what is below zero becomes zero.
pub const RELU: &str = "relu";

/// Does it so, if it is found; gives whether it is.
pub(crate) fn fuse(net: &mut Net) -> bool {
    net.infer_shapes();
    let index = net.index();
    let found = net.find_all(&index, find);
    for found in &found {
        replace(net, found);
    }
    !found.is_empty()
}

/// All of it.
struct Found {
    input: String,
    /// Of the input: see [`match_masking`].
    mask: String,
    stages: Vec<Stage>,
    /// The node that gives `output`, a row for each frame.
    last: usize,
    output: String,
    /// The product that takes it, and its weights, [`turned`].
    product: usize,
    weights: Vec<f32>,
    /// Sizes of the table of weights.
    table: [usize; 2],
    /// Which frames are taken, if not all are.
    taken: Option<String>,
    /// Frames, and values of a row.
    sizes: [usize; 2],
}

fn find(net: &Net, index: &DefUse, number: usize) -> Option<Found> {
    let matcher = PatternMatcher { net, index };
    let first = &net.nodes[number];
    let mut stages = vec![match_strided_conv(net, first)?];
    let masked = matcher.produced_by(&first.input[0], "Mul")?;
    let (input, mask) = match_masking(&matcher, masked)?;
    if !stages[0].shared {
        return None;
    }
    let mut output = first.output.first()?;
    let turned = loop {
        let stage = stages.last_mut()?;
        let user = index.single_consumer(output)?;
        let node = &net.nodes[user];
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
                *stage.products.last_mut().map_or(&mut stage.relu, |last| &mut last.relu) = true;
                stage.is_masked = false;
            }
            "Conv" if node.input.first() != Some(output) => return None,
            "Conv" => match match_pointwise_conv(net, node) {
                Some(product) => {
                    stage.products.push(product);
                    stage.is_masked = false;
                }
                None => {
                    let next = match_strided_conv(net, node).filter(|next| stage.is_masked && !next.shared)?;
                    stages.push(next);
                }
            },
            "Transpose" if stage.is_masked && attribute_list(node, "perm") == Some(&[0, 2, 1, 3]) => break node,
            _ => return None,
        }
        output = node.output.first()?;
    };
    let &[1, channels, frames, bins] = net.shape(output)? else {
        return None;
    };
    // First with a batch axis, then without; between them, perhaps, only some frames are taken.
    let width = channels * bins;
    let rows = |node: usize| net.value(net.nodes[node].input.get(1)?)?.ints();
    let mut last = matcher.consumed_by(&turned.output[0], "Reshape")?;
    let (mut taken, mut kept) = (None, frames);
    if rows(last)? != [frames as i64, width as i64] {
        if let Some(gather) = matcher.consumed_by(&net.nodes[last].output[0], "Gather") {
            let gather = &net.nodes[gather];
            let &[1, count, _] = net.shape(&gather.output[0])? else {
                return None;
            };
            if attribute(gather, "axis") != Some(1) {
                return None;
            }
            (taken, kept) = (Some(gather.input[1].clone()), count);
            last = matcher.consumed_by(&gather.output[0], "Reshape")?;
        } else {
            last = matcher.consumed_by(&net.nodes[last].output[0], "Reshape")?;
        }
    }
    let right = rows(last)? == [kept as i64, width as i64];
    let output = &net.nodes[last].output[0];
    let product = index.single_consumer(output)?;
    let (weights, table) = match_weights(net, product, output)?;
    (right && table[0] == width).then(|| Found {
        input,
        mask,
        stages,
        last,
        output: output.clone(),
        product,
        weights: frequencies_first(&weights, [channels, bins, table[1]]),
        table,
        taken,
        sizes: [frames, width],
    })
}

/// The constant table that product `number` multiplies `rows` with, and its sizes.
fn match_weights(net: &Net, number: usize, rows: &str) -> Option<(Vec<f32>, [usize; 2])> {
    let node = &net.nodes[number];
    let weights = node.input.get(1)?;
    let &[depth, columns] = net.shape(weights)? else {
        return None;
    };
    let turned = |name: &str| attribute(node, name).is_some_and(|flag| flag != 0);
    let others = node.input.iter().skip(1).any(|input| input == rows);
    let right = matches!(node.op_type(), "MatMul" | "Gemm")
        && node.input[0] == rows
        && !others
        && !turned("transA")
        && !turned("transB");
    right.then_some((net.value(weights)?.floats()?, [depth, columns]))
}

/// The rows of a table, which are for channels and in each of them frequencies, in the order in which frequencies come first.
fn frequencies_first(table: &[f32], [channels, bins, columns]: [usize; 3]) -> Vec<f32> {
    let rows = (0..bins).flat_map(|bin| (0..channels).map(move |channel| channel * bins + bin));
    rows.flat_map(|row| &table[row * columns..][..columns])
        .copied()
        .collect()
}

fn replace(net: &mut Net, found: &Found) {
    let (mut data, mut mask) = (found.input.clone(), cast_mask(net, &found.mask));
    for stage in &found.stages {
        data = convolve(net, stage, &data, &mask);
        for product in &stage.products {
            data = multiply(net, product, &data);
        }
        if let Some(frames) = &stage.mask {
            mask = cast_mask(net, frames);
        }
    }
    let sizes = found.sizes.map(|size| size as i64);
    let (rows, column) = (net.add_ints(&sizes), net.add_ints(&[sizes[0], 1]));
    let mut rows = net.add("Reshape", &[&data, &rows], &[]);
    let mut column = net.add("Reshape", &[&mask, &column], &[]);
    if let Some(taken) = &found.taken {
        for table in [&mut rows, &mut column] {
            *table = net.add("Gather", &[table, taken], &[("axis", Attribute::Int(0))]);
        }
    }
    net.detach(found.last);
    net.add_as(&found.output, "Mul", &[&rows, &column], &[]);
    let weights = net.add_value(&Constant::from_floats(found.table.into(), &found.weights));
    net.nodes[found.product].input[1] = weights;
}

/// Truths as zeros and ones.
fn cast_mask(net: &mut Net, truths: &str) -> String {
    net.add("Cast", &[truths], &[("to", Attribute::Int(DataType::Float as i64))])
}

fn convolve(net: &mut Net, stage: &Stage, data: &str, mask: &str) -> String {
    let bias = match &stage.bias {
        Some(bias) => bias.clone(),
        None => net.add_value(&Constant::from_floats(vec![stage.channels], &vec![0.0; stage.channels])),
    };
    let output = net.new_name("subsampled");
    let attributes = [
        (STRIDES, Attribute::Ints(&stage.strides)),
        (PADS, Attribute::Ints(&stage.pads)),
        (SHARED_INPUT, Attribute::Int(stage.shared.into())),
        (RELU, Attribute::Int(stage.relu.into())),
    ];
    crate::fusions::patterns::add(
        net,
        STRIDED_CONV,
        &[&output],
        &[data, mask, &stage.weights, &bias],
        &attributes,
    );
    output
}

fn multiply(net: &mut Net, product: &Pointwise, data: &str) -> String {
    let Some(weights) = net.weight(&product.weights).cloned() else {
        return data.into();
    };
    // The same bytes with two axes less.
    let weights = net.add_weight(TensorProto {
        name: Some(format!("{}/flat", product.weights)),
        dims: product.sizes.into(),
        ..weights
    });
    let inputs: Vec<&str> = [data, &weights].into_iter().chain(product.bias.as_deref()).collect();
    let product_of = net.add("Gemm", &inputs, &[("transB", Attribute::Int(1))]);
    match product.relu {
        true => net.add("Relu", &[&product_of], &[]),
        false => product_of,
    }
}

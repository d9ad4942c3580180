// SPDX-License-Identifier: MIT OR Apache-2.0

//! Convolutions over one frame at a time are matrix products, and written as such: ONNX Runtime packs the weights of a
//! `Gemm` at load, those of a `Conv` it does not, and the transposition that a `Conv` needs is saved where its neighbours
//! have frames first.
//!
//! Convolutions of each channel by itself are written over two axes, the first of size 1: for those ONNX Runtime has
//! kernels that work on 8 or 16 channels at once, for one axis it has not.

use crate::ir::{
    constant::{attribute, attribute_list},
    net::{Attribute, DefUse, Net},
};
use crate::{NodeProto, TensorProto};

/// Rewrites every such convolution, and returns how many there were.
pub(crate) fn pointwise_conv_to_matmul(net: &mut Net) -> usize {
    let found: Vec<usize> = (0..net.nodes.len())
        .filter(|&number| is_pointwise(net, &net.nodes[number]))
        .collect();
    for &number in &found {
        rewrite(net, number);
    }
    net.remove_dead();
    found.len()
}

/// Rewrites every convolution of single channels over one axis, and returns how many there were.
pub(crate) fn depthwise_conv_to_2d(net: &mut Net) -> usize {
    let mut count = 0;
    for number in 0..net.nodes.len() {
        count += usize::from(add_unit_axis(net, number).is_some());
    }
    count
}

fn add_unit_axis(net: &mut Net, number: usize) -> Option<()> {
    let node = net.nodes[number].clone();
    let (data, weight, output) = (node.input.first()?, node.input.get(1)?, node.output.first()?);
    let (&[batch, channels, length], &[_, _, out_length]) = (net.shape(data)?, net.shape(output)?) else {
        return None;
    };
    let tensor = net.weight(weight)?;
    let &[outputs, 1, kernel] = &tensor.dims[..] else {
        return None;
    };
    let group = attribute(&node, "group")?;
    if node.op_type() != "Conv" || group != channels as i64 || outputs != group {
        return None;
    }
    // The same bytes with one axis more.
    let weight = TensorProto {
        name: Some(format!("{weight}/wide")),
        dims: vec![outputs, 1, 1, kernel],
        ..tensor.clone()
    };
    let weight = net.add_weight(weight);
    let one = |name: &str, default: i64| {
        attribute_list(&node, name)
            .and_then(|list| list.first().copied())
            .unwrap_or(default)
    };
    let pads = attribute_list(&node, "pads").unwrap_or(&[0, 0]);
    let (before, after) = (*pads.first()?, *pads.get(1)?);
    let attributes = [
        ("group", Attribute::Int(group)),
        ("kernel_shape", Attribute::Ints(&[1, kernel])),
        ("strides", Attribute::Ints(&[1, one("strides", 1)])),
        ("dilations", Attribute::Ints(&[1, one("dilations", 1)])),
        ("pads", Attribute::Ints(&[0, before, 0, after])),
    ];
    let sizes = [batch, channels, 1, length].map(|size| size as i64);
    let shape = net.add_ints(&sizes);
    let wide = net.add("Reshape", &[data, &shape], &[]);
    let bias = node.input.get(2).filter(|name| !name.is_empty()).map(String::as_str);
    let inputs: Vec<&str> = [&wide, &weight].into_iter().map(String::as_str).chain(bias).collect();
    let wide = net.add("Conv", &inputs, &attributes);
    net.detach(number);
    let sizes = [batch, outputs as usize, out_length].map(|size| size as i64);
    let shape = net.add_ints(&sizes);
    net.add_as(output, "Reshape", &[&wide, &shape], &[]);
    Some(())
}

fn is_pointwise(net: &Net, node: &NodeProto) -> bool {
    let all = |name: &str, value: i64| attribute_list(node, name).is_none_or(|list| list.iter().all(|&v| v == value));
    let weight = node.input.get(1);
    let known = |name: &String| net.shape(name).is_some_and(|dims| matches!(dims, [1, _, _]));
    node.op_type() == "Conv"
        && all("strides", 1)
        && all("pads", 0)
        && attribute(node, "group").unwrap_or(1) == 1
        && node.input.first().is_some_and(known)
        && weight.is_some_and(|name| net.is_constant(name) && matches!(net.shape(name), Some([_, _, 1])))
}

fn rewrite(net: &mut Net, number: usize) {
    let node = net.nodes[number].clone();
    let (data, weight, output) = (&node.input[0], &node.input[1], &node.output[0]);
    let (Some(&[_, channels, frames]), Some(tensor)) = (net.shape(data), net.weight(weight)) else {
        return;
    };
    let outputs = tensor.dims[0];
    // The same bytes with one axis less.
    let flat = TensorProto {
        name: Some(format!("{weight}/flat")),
        dims: vec![outputs, channels as i64],
        ..tensor.clone()
    };
    let flat = net.add_weight(flat);
    let swap = [("perm", Attribute::Ints(&[0, 2, 1]))];

    let index = net.index();
    let rows = frames_first(net, &index, data);
    let shape = net.add_ints(&[frames as i64, channels as i64]);
    let rows = net.add("Reshape", &[&rows, &shape], &[]);
    let bias = node.input.get(2).filter(|name| !name.is_empty()).map(String::as_str);
    let inputs: Vec<&str> = [&rows, &flat].into_iter().map(String::as_str).chain(bias).collect();
    let product = net.add("Gemm", &inputs, &[("transB", Attribute::Int(1))]);
    net.shapes.insert(product.clone(), vec![frames, outputs as usize]);
    let shape = net.add_ints(&[1, frames as i64, outputs]);
    let product = net.add("Reshape", &[&product, &shape], &[]);

    net.detach(number);
    // Whoever turns it back at once need not.
    let turned_back: Vec<String> = net
        .nodes
        .iter()
        .filter(|user| user.input.first() == Some(output) && is_swap(user))
        .map(|user| user.output[0].clone())
        .collect();
    for name in turned_back {
        net.rename_uses(&name, &product);
    }
    net.add_as(output, "Transpose", &[&product], &swap);
}

/// `data` \[1, channels, frames\] as \[1, frames, channels\]. Where it comes from such a tensor by activations alone, they
/// are computed on that one.
fn frames_first(net: &mut Net, index: &DefUse, data: &str) -> String {
    let producer = index.producer(data).map(|number| net.nodes[number].clone());
    if let Some(producer) = producer {
        if is_swap(&producer) {
            return producer.input[0].clone();
        }
        // x * sigmoid(x), or any other activation: each element alone.
        let turned: Option<Vec<String>> = match producer.op_type() {
            "Mul" | "Sigmoid" | "Relu" | "Tanh" => {
                let same_shape = |name: &String| net.shape(name) == net.shape(data) && !net.is_constant(name);
                let inputs = producer.input.iter().all(same_shape);
                let ends = producer.input.iter().all(|name| leads_to_swap(net, index, name, 3));
                (inputs && ends).then(|| {
                    producer
                        .input
                        .iter()
                        .map(|name| frames_first(net, index, name))
                        .collect()
                })
            }
            _ => None,
        };
        if let Some(inputs) = turned {
            let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
            return net.add(producer.op_type(), &inputs, &[]);
        }
    }
    net.add("Transpose", &[data], &[("perm", Attribute::Ints(&[0, 2, 1]))])
}

/// Whether `name` is made by a swap of frames and channels, with at most `depth` activations after it.
fn leads_to_swap(net: &Net, index: &DefUse, name: &str, depth: usize) -> bool {
    let Some(producer) = index.producer(name).map(|number| &net.nodes[number]) else {
        return false;
    };
    let activation = matches!(producer.op_type(), "Mul" | "Sigmoid" | "Relu" | "Tanh");
    is_swap(producer)
        || (activation
            && depth > 0
            && producer
                .input
                .iter()
                .all(|name| leads_to_swap(net, index, name, depth - 1)))
}

fn is_swap(node: &NodeProto) -> bool {
    node.op_type() == "Transpose" && attribute_list(node, "perm") == Some(&[0, 2, 1])
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Rewrites pointwise convolutions as matrix multiplications: ONNX Runtime prepacks the weights of `Gemm` but not those
//! of `Conv`, and the transposes around a `Conv` are avoided where its neighbors are frame-major.
//!
//! Depthwise convolutions are written with two spatial axes, the first of size 1: for these ONNX Runtime has kernels
//! that process 8 or 16 channels at once, for one axis it has none.

use crate::ir::{
    attribute::Attribute,
    constant::{attribute, attribute_list},
    def_use::DefUse,
};
use crate::{Graph, NodeProto, TensorProto};

/// Rewrites all pointwise convolutions; returns their number.
pub(crate) fn pointwise_conv_to_matmul(graph: &mut Graph) -> usize {
    let found: Vec<usize> = (0..graph.nodes.len())
        .filter(|&number| is_pointwise(graph, &graph.nodes[number]))
        .collect();
    for &number in &found {
        rewrite(graph, number);
    }
    graph.remove_dead();
    found.len()
}

/// Rewrites all depthwise convolutions with one spatial axis; returns their number.
pub(crate) fn depthwise_conv_to_2d(graph: &mut Graph) -> usize {
    let mut count = 0;
    for number in 0..graph.nodes.len() {
        count += usize::from(add_unit_axis(graph, number).is_some());
    }
    count
}

fn add_unit_axis(graph: &mut Graph, number: usize) -> Option<()> {
    let node = graph.nodes[number].clone();
    let (data, weight, output) = (node.input.first()?, node.input.get(1)?, node.output.first()?);
    let (&[batch, channels, length], &[_, _, out_length]) = (graph.shape(data)?, graph.shape(output)?) else {
        return None;
    };
    let tensor = graph.weight(weight)?;
    let &[outputs, 1, kernel] = &tensor.dims[..] else {
        return None;
    };
    let group = attribute(&node, "group")?;
    if node.op_type() != "Conv" || group != channels as i64 || outputs != group {
        return None;
    }
    // The same data with one more axis.
    let weight = TensorProto {
        name: Some(format!("{weight}/wide")),
        dims: vec![outputs, 1, 1, kernel],
        ..tensor.clone()
    };
    let weight = graph.add_weight(weight);
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
    let shape = graph.add_ints(&sizes);
    let wide = graph.add("Reshape", &[data, &shape], &[]);
    let bias = node.input.get(2).filter(|name| !name.is_empty()).map(String::as_str);
    let inputs: Vec<&str> = [&wide, &weight].into_iter().map(String::as_str).chain(bias).collect();
    let wide = graph.add("Conv", &inputs, &attributes);
    graph.detach(number);
    let sizes = [batch, outputs as usize, out_length].map(|size| size as i64);
    let shape = graph.add_ints(&sizes);
    graph.add_as(output, "Reshape", &[&wide, &shape], &[]);
    Some(())
}

fn is_pointwise(graph: &Graph, node: &NodeProto) -> bool {
    let all = |name: &str, value: i64| attribute_list(node, name).is_none_or(|list| list.iter().all(|&v| v == value));
    let weight = node.input.get(1);
    let known = |name: &String| graph.shape(name).is_some_and(|dims| matches!(dims, [1, _, _]));
    node.op_type() == "Conv"
        && all("strides", 1)
        && all("pads", 0)
        && attribute(node, "group").unwrap_or(1) == 1
        && node.input.first().is_some_and(known)
        // Not known if the convolution is inconsistent.
        && node.output.first().is_some_and(|output| graph.shape(output).is_some())
        && weight.is_some_and(|name| graph.is_constant(name) && matches!(graph.shape(name), Some([_, _, 1])))
}

fn rewrite(graph: &mut Graph, number: usize) {
    let node = graph.nodes[number].clone();
    let (data, weight, output) = (&node.input[0], &node.input[1], &node.output[0]);
    let (Some(&[_, channels, frames]), Some(tensor)) = (graph.shape(data), graph.weight(weight)) else {
        return;
    };
    let outputs = tensor.dims[0];
    // The same data with one axis less.
    let flat = TensorProto {
        name: Some(format!("{weight}/flat")),
        dims: vec![outputs, channels as i64],
        ..tensor.clone()
    };
    let flat = graph.add_weight(flat);
    let swap = [("perm", Attribute::Ints(&[0, 2, 1]))];

    let index = graph.index();
    let rows = frames_first(graph, &index, data);
    let shape = graph.add_ints(&[frames as i64, channels as i64]);
    let rows = graph.add("Reshape", &[&rows, &shape], &[]);
    let bias = node.input.get(2).filter(|name| !name.is_empty()).map(String::as_str);
    let inputs: Vec<&str> = [&rows, &flat].into_iter().map(String::as_str).chain(bias).collect();
    let product = graph.add("Gemm", &inputs, &[("transB", Attribute::Int(1))]);
    graph.shapes.insert(product.clone(), vec![frames, outputs as usize]);
    let shape = graph.add_ints(&[1, frames as i64, outputs]);
    let product = graph.add("Reshape", &[&product, &shape], &[]);

    graph.detach(number);
    // A transpose that directly follows cancels out.
    let transposed_back: Vec<String> = graph
        .nodes
        .iter()
        .filter(|user| user.input.first() == Some(output) && is_swap(user))
        .map(|user| user.output[0].clone())
        .collect();
    for name in transposed_back {
        graph.rename_uses(&name, &product);
    }
    graph.add_as(output, "Transpose", &[&product], &swap);
}

/// `data` \[1, channels, frames\] as \[1, frames, channels\]. If it was computed from such a tensor by activations
/// only, those are applied to that tensor.
fn frames_first(graph: &mut Graph, index: &DefUse, data: &str) -> String {
    let producer = index.producer(data).map(|number| graph.nodes[number].clone());
    if let Some(producer) = producer {
        if is_swap(&producer) {
            return producer.input[0].clone();
        }
        // x * sigmoid(x), or any other element-wise activation.
        let transposed_inputs: Option<Vec<String>> = match producer.op_type() {
            "Mul" | "Sigmoid" | "Relu" | "Tanh" => {
                let same_shape = |name: &String| graph.shape(name) == graph.shape(data) && !graph.is_constant(name);
                let inputs = producer.input.iter().all(same_shape);
                let ends = producer.input.iter().all(|name| leads_to_swap(graph, index, name, 3));
                (inputs && ends).then(|| {
                    producer
                        .input
                        .iter()
                        .map(|name| frames_first(graph, index, name))
                        .collect()
                })
            }
            _ => None,
        };
        if let Some(inputs) = transposed_inputs {
            let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
            return graph.add(producer.op_type(), &inputs, &[]);
        }
    }
    graph.add("Transpose", &[data], &[("perm", Attribute::Ints(&[0, 2, 1]))])
}

/// Whether `name` is the output of a transpose of frames and channels, followed by at most `depth` activations.
fn leads_to_swap(graph: &Graph, index: &DefUse, name: &str, depth: usize) -> bool {
    let Some(producer) = index.producer(name).map(|number| &graph.nodes[number]) else {
        return false;
    };
    let activation = matches!(producer.op_type(), "Mul" | "Sigmoid" | "Relu" | "Tanh");
    is_swap(producer)
        || (activation
            && depth > 0
            && producer
                .input
                .iter()
                .all(|name| leads_to_swap(graph, index, name, depth - 1)))
}

fn is_swap(node: &NodeProto) -> bool {
    node.op_type() == "Transpose" && attribute_list(node, "perm") == Some(&[0, 2, 1])
}

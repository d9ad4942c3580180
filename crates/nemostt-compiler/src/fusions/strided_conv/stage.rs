// SPDX-License-Identifier: MIT OR Apache-2.0

//! The parts of the subsampling.

use crate::{Graph, NodeProto, onnx::tensor_proto::DataType};
use crate::{
    fusions::patterns::PatternMatcher,
    ir::constant::{attribute, attribute_list},
};

/// A strided convolution and everything up to the next one.
pub(crate) struct Stage {
    pub(crate) weights: String,
    pub(crate) bias: Option<String>,
    pub(crate) channels: usize,
    pub(crate) strides: Vec<i64>,
    pub(crate) pads: Vec<i64>,
    pub(crate) shared: bool,
    pub(crate) relu: bool,
    pub(crate) pointwise: Vec<Pointwise>,
    /// Mask of its output.
    pub(crate) mask: Option<String>,
    /// Whether the mask is the last of its operations so far.
    pub(crate) is_masked: bool,
}

/// A pointwise convolution.
pub(crate) struct Pointwise {
    pub(crate) weights: String,
    pub(crate) bias: Option<String>,
    pub(crate) sizes: [i64; 2],
    pub(crate) relu: bool,
}

/// Matches a depthwise convolution over frames and frequencies, or one with a single input channel.
pub(crate) fn match_strided_conv(graph: &Graph, node: &NodeProto) -> Option<Stage> {
    let (data, weights) = (node.input.first()?, node.input.get(1)?);
    let &[1, of_input, ..] = graph.shape(data).filter(|dims| dims.len() == 4)? else {
        return None;
    };
    let &[channels, 1, rows, columns] = graph.shape(weights)? else {
        return None;
    };
    let group = attribute(node, "group").unwrap_or(1);
    let strides = attribute_list(node, "strides").unwrap_or(&[1, 1]);
    let pads = attribute_list(node, "pads").unwrap_or(&[0; 4]);
    let plain = attribute_list(node, "dilations").is_none_or(|list| list.iter().all(|&dilation| dilation == 1));
    let padded = node.attribute.iter().any(|a| a.name() == "auto_pad");
    let right = node.op_type() == "Conv"
        && plain
        && !padded
        && group == of_input as i64
        && (of_input == 1 || of_input == channels)
        && strides.len() == 2
        && pads.len() == 4
        && (rows, columns) != (1, 1)
        && strides.iter().all(|&stride| stride > 0)
        && pads.iter().all(|&pad| pad >= 0);
    // The shape of its output must be known.
    graph.shape(node.output.first()?)?;
    is_float(graph, weights)?;
    let bias = bias(graph, node, channels)?;
    right.then(|| Stage {
        weights: weights.clone(),
        bias,
        channels,
        strides: strides.to_vec(),
        pads: pads.to_vec(),
        shared: of_input == 1,
        relu: false,
        pointwise: Vec::new(),
        mask: None,
        is_masked: false,
    })
}

/// Matches a pointwise convolution.
pub(crate) fn match_pointwise_conv(graph: &Graph, node: &NodeProto) -> Option<Pointwise> {
    let weights = node.input.get(1)?;
    let &[outputs, inputs, 1, 1] = graph.shape(weights)? else {
        return None;
    };
    let all = |name: &str, value: i64| attribute_list(node, name).is_none_or(|list| list.iter().all(|&v| v == value));
    let right = attribute(node, "group").unwrap_or(1) == 1
        && all("strides", 1)
        && all("pads", 0)
        && !node.attribute.iter().any(|a| a.name() == "auto_pad");
    graph.shape(node.output.first()?)?;
    is_float(graph, weights)?;
    let bias = bias(graph, node, outputs)?;
    right.then(|| Pointwise {
        weights: weights.clone(),
        bias,
        sizes: [outputs as i64, inputs as i64],
        relu: false,
    })
}

/// The bias of a convolution, `Some(None)` if it has none; `None` if it is not a constant with one value per channel.
fn bias(graph: &Graph, node: &NodeProto, channels: usize) -> Option<Option<String>> {
    let Some(bias) = node.input.get(2).filter(|name| !name.is_empty()) else {
        return Some(None);
    };
    is_float(graph, bias)?;
    (graph.shape(bias)? == [channels]).then(|| Some(bias.clone()))
}

/// `Some` if `name` is a float32 constant.
fn is_float(graph: &Graph, name: &str) -> Option<()> {
    (graph.value(name)?.element == DataType::Float).then_some(())
}

/// Matches a multiplication with a mask: the masked tensor, and the [mask over frames](frame_mask).
pub(crate) fn match_masking(matcher: &PatternMatcher<'_>, node: &NodeProto) -> Option<(String, String)> {
    let [a, b] = &node.input[..] else { return None };
    let of = |data: &String, mask: &str| {
        let &[1, _, frames, bins] = matcher.graph.shape(data)? else {
            return None;
        };
        Some((data.clone(), frame_mask(matcher, mask, [frames, bins])?))
    };
    of(a, b).or_else(|| of(b, a))
}

/// The boolean mask \[1, frames\] that is expanded to `mask`, zeros and ones \[1, 1, frames, frequencies\].
fn frame_mask(matcher: &PatternMatcher<'_>, mask: &str, [frames, bins]: [usize; 2]) -> Option<String> {
    let graph = matcher.graph;
    let is = |name: &String, dims: &[usize]| graph.shape(name) == Some(dims);
    let cast = &matcher.produced_by(mask, "Unsqueeze")?.input[0];
    let cast_node = matcher.produced_by(cast, "Cast")?;
    let expanded = &cast_node.input[0];
    let column = &matcher.produced_by(expanded, "Expand")?.input[0];
    let boolean = &matcher.produced_by(column, "Unsqueeze")?.input[0];
    let compare = &graph.nodes[matcher.index.producer(boolean)?];
    let right = graph.shape(mask) == Some(&[1, 1, frames, bins])
        && is(expanded, &[1, frames, bins])
        && is(column, &[1, frames, 1])
        && is(boolean, &[1, frames])
        && attribute(cast_node, "to") == Some(DataType::Float as i64)
        && matches!(
            compare.op_type(),
            "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "Not" | "And" | "Or"
        );
    right.then(|| boolean.clone())
}

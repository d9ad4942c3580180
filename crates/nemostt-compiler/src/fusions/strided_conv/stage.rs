// SPDX-License-Identifier: MIT OR Apache-2.0

//! The nodes of which the subsampling consists.

use crate::{NodeProto, onnx::tensor_proto::DataType};
use crate::{
    fusions::patterns::PatternMatcher,
    ir::{
        constant::{attribute, attribute_list},
        net::Net,
    },
};

/// A strided convolution and what follows, up to the next one.
pub(crate) struct Stage {
    pub(crate) weights: String,
    pub(crate) bias: Option<String>,
    pub(crate) channels: usize,
    pub(crate) strides: Vec<i64>,
    pub(crate) pads: Vec<i64>,
    pub(crate) shared: bool,
    pub(crate) relu: bool,
    pub(crate) products: Vec<Pointwise>,
    /// Of its output.
    pub(crate) mask: Option<String>,
    /// Whether the mask is the last that was done.
    pub(crate) is_masked: bool,
}

/// A convolution of single places.
pub(crate) struct Pointwise {
    pub(crate) weights: String,
    pub(crate) bias: Option<String>,
    pub(crate) sizes: [i64; 2],
    pub(crate) relu: bool,
}

/// A convolution over frames and frequencies with one channel to look at for each of its own.
pub(crate) fn match_strided_conv(net: &Net, node: &NodeProto) -> Option<Stage> {
    let (data, weights) = (node.input.first()?, node.input.get(1)?);
    let &[1, of_input, ..] = net.shape(data).filter(|dims| dims.len() == 4)? else {
        return None;
    };
    let &[channels, 1, rows, columns] = net.shape(weights)? else {
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
    // What its output is like is known then, too.
    net.shape(node.output.first()?)?;
    is_float(net, weights)?;
    let bias = bias(net, node, channels)?;
    right.then(|| Stage {
        weights: weights.clone(),
        bias,
        channels,
        strides: strides.to_vec(),
        pads: pads.to_vec(),
        shared: of_input == 1,
        relu: false,
        products: Vec::new(),
        mask: None,
        is_masked: false,
    })
}

/// A convolution of single places, over all channels.
pub(crate) fn match_pointwise_conv(net: &Net, node: &NodeProto) -> Option<Pointwise> {
    let weights = node.input.get(1)?;
    let &[outputs, inputs, 1, 1] = net.shape(weights)? else {
        return None;
    };
    let all = |name: &str, value: i64| attribute_list(node, name).is_none_or(|list| list.iter().all(|&v| v == value));
    let right = attribute(node, "group").unwrap_or(1) == 1
        && all("strides", 1)
        && all("pads", 0)
        && !node.attribute.iter().any(|a| a.name() == "auto_pad");
    net.shape(node.output.first()?)?;
    is_float(net, weights)?;
    let bias = bias(net, node, outputs)?;
    right.then(|| Pointwise {
        weights: weights.clone(),
        bias,
        sizes: [outputs as i64, inputs as i64],
        relu: false,
    })
}

/// The bias of a convolution, if it has one; `None`: it is of another kind than a constant for each channel.
fn bias(net: &Net, node: &NodeProto, channels: usize) -> Option<Option<String>> {
    let Some(bias) = node.input.get(2).filter(|name| !name.is_empty()) else {
        return Some(None);
    };
    is_float(net, bias)?;
    (net.shape(bias)? == [channels]).then(|| Some(bias.clone()))
}

/// Whether `name` is a constant of float32.
fn is_float(net: &Net, name: &str) -> Option<()> {
    (net.value(name)?.element == DataType::Float).then_some(())
}

/// What is masked by `node`, and the [frames of the mask](frames_of_mask).
pub(crate) fn match_masking(matcher: &PatternMatcher<'_>, node: &NodeProto) -> Option<(String, String)> {
    let [a, b] = &node.input[..] else { return None };
    let of = |data: &String, mask: &str| {
        let &[1, _, frames, bins] = matcher.net.shape(data)? else {
            return None;
        };
        Some((data.clone(), frames_of_mask(matcher, mask, [frames, bins])?))
    };
    of(a, b).or_else(|| of(b, a))
}

/// The truths that become a mask of zeros and ones \[1, 1, frames, frequencies\], which is the same for all frequencies:
/// \[1, frames\].
fn frames_of_mask(matcher: &PatternMatcher<'_>, mask: &str, [frames, bins]: [usize; 2]) -> Option<String> {
    let net = matcher.net;
    let is = |name: &String, dims: &[usize]| net.shape(name) == Some(dims);
    let cast = &matcher.produced_by(mask, "Unsqueeze")?.input[0];
    let cast_node = matcher.produced_by(cast, "Cast")?;
    let spread = &cast_node.input[0];
    let column = &matcher.produced_by(spread, "Expand")?.input[0];
    let truths = &matcher.produced_by(column, "Unsqueeze")?.input[0];
    let compare = &net.nodes[matcher.index.producer(truths)?];
    let right = net.shape(mask) == Some(&[1, 1, frames, bins])
        && is(spread, &[1, frames, bins])
        && is(column, &[1, frames, 1])
        && is(truths, &[1, frames])
        && attribute(cast_node, "to") == Some(DataType::Float as i64)
        && matches!(
            compare.op_type(),
            "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "Not" | "And" | "Or"
        );
    right.then(|| truths.clone())
}

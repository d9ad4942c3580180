// SPDX-License-Identifier: MIT OR Apache-2.0

//! Rewrites an encoder for the windows it will be run on, so that no step computes what every step would.
//!
//! An export leaves batch size and window width open and computes shapes, masks and position tables anew at each step.
//! Here every window has one width, so all of that is folded into constants (`net.rs`, `const_eval.rs`, `shape_inference.rs`,
//! `data_movement.rs`). Then come the rewrites: keys and values are cached in place of what they are computed from
//! (`cache_projected_kv.rs`), each layer has its caches to itself (`unstack_caches.rs`), the relative shift is a gather (`rel_shift_to_gather.rs`),
//! masks do no more than they must (`simplify_masks.rs`),
//! pointwise convolutions are matrix products (`conv_to_matmul.rs`), and those have no batch axis (`squeeze_batch.rs`). Each is exact: the same numbers are summed.
//!
//! `split_length_graph.rs` takes what only the lengths decide apart, when all else is done.
//!
//! `fold_padding.rs` saves copies before the first layer, `hoist_frame_gather.rs` the work for frames that are dropped. `predictor/`
//! rewrites another graph, the prediction network,
//! with the same means.
//!
//! Everything is found by what the nodes do, never by their names. What is not found stays as it is, and is named in
//! [`SpecializedEncoder::diagnostics`].

mod cache_projected_kv;
mod conv_to_matmul;
mod fold_padding;
pub(crate) mod fp16_to_fp32;
mod hoist_frame_gather;
mod predictor;
pub(crate) mod quantize_int8;
mod rel_shift_to_gather;
mod simplify_masks;
mod split_length_graph;
mod squeeze_batch;
#[cfg(test)]
mod tests;
mod unstack_caches;

use serde::{Deserialize, Serialize};

pub use self::predictor::LSTM_CELL;
pub use self::predictor::specialize_predictor;
pub use self::split_length_graph::{BoundaryTensor, LENGTHS, NEXT_LENGTHS, SplitGraph};
use crate::ir::net::{Attribute, Net};
use crate::streaming_geometry::full_width;
use crate::{
    DROP_INPUT, Graph, PROMPT_INPUT, StreamingConfig, import::streaming_config::carry_drop,
    onnx::attribute_proto::AttributeType,
};

/// Since this opset axes and sizes are inputs of `Unsqueeze`, `Split` and others, where they were attributes.
const MIN_OPSET: i64 = 13;

/// A tensor that one step writes and the next one reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateSpec {
    /// Input that reads it.
    pub input: String,
    /// Output that writes it.
    pub output: String,
    /// Its shape.
    pub dims: Vec<usize>,
    /// `None`: `output` is the whole tensor for the next step. Else it is new rows along the last axis but one, to be put
    /// behind those that are there, the oldest of which make room.
    pub new_rows: Option<usize>,
    /// Whether the output is the whole tensor all the same, with the new rows where the oldest were and nothing else moved, so
    /// that both may be one tensor: see [`RING_HEAD_INPUT`](crate::RING_HEAD_INPUT).
    #[serde(default)]
    pub is_ring: bool,
}

impl StateSpec {
    /// The caches of an export as it is: see [`StreamingConfig`].
    pub fn of_export(s: &StreamingConfig) -> Vec<Self> {
        let state = |input: &str, dims: [usize; 4]| Self {
            input: input.into(),
            output: format!("{input}_next"),
            dims: dims.into(),
            new_rows: None,
            is_ring: false,
        };
        vec![
            state("cache_last_channel", [1, s.layers, s.left_context, s.d_model]),
            state("cache_last_time", [1, s.layers, s.d_model, s.conv_context]),
        ]
    }
}

/// What became of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecializedEncoder {
    /// The width of every window, in mel frames; shorter ones are filled up with zeros.
    pub width: usize,
    /// What a stream remembers, besides the length of the attention cache.
    pub states: Vec<StateSpec>,
    /// What was not recognised and so left as it is, and why.
    pub diagnostics: Vec<String>,
}

/// Rewrites `graph` for windows of lookahead `lookahead`. All windows of a stream then have the same width, with the
/// number of dropped outputs as input [`DROP_INPUT`].
///
/// # Errors
/// A sentence that says why it cannot be rewritten at all; `graph` is not usable then.
pub fn specialize(
    graph: &mut Graph,
    streaming: &StreamingConfig,
    lookahead: usize,
) -> Result<SpecializedEncoder, String> {
    check_supported(graph)?;
    let place = carry_drop(graph).map_err(|fault| fault.to_string())?;
    let width = full_width(lookahead);
    let s = streaming;
    let mut net = Net::from_onnx(graph);
    keep_one_chunk(&mut net, place.slice, place.sub, lookahead + 1);

    let inputs: [(&str, &[usize]); 5] = [
        ("audio_signal", &[1, s.mels, width]),
        ("length", &[1]),
        ("cache_last_channel", &[1, s.layers, s.left_context, s.d_model]),
        ("cache_last_time", &[1, s.layers, s.d_model, s.conv_context]),
        ("cache_last_channel_len", &[1]),
    ];
    for (name, dims) in inputs {
        net.fix_input(name, dims)
            .ok_or_else(|| format!("it has no input {name}"))?;
    }
    // Multilingual models only.
    net.fix_input(PROMPT_INPUT, &[1]);
    net.sort().ok_or("its nodes wait for each other in a circle")?;
    net.fold();
    net.remove_dead();

    let mut diagnostics = Vec::new();
    let [channel, time]: [StateSpec; 2] = StateSpec::of_export(s)
        .try_into()
        .map_err(|_| "an export has two caches".to_owned())?;
    let mut states = Vec::new();
    match cache_projected_kv::cache_projected_kv(&mut net, &channel.input, &channel.output) {
        Ok(found) => states.extend(found),
        Err(reason) => {
            diagnostics.push(format!("keys and values are computed anew at each step: {reason}"));
            states.push(channel);
        }
    }
    match unstack_caches::unstack_caches(&mut net, &time.input, &time.output, 2) {
        Ok(found) => states.extend(found),
        Err(reason) => {
            diagnostics.push(format!("the caches of the convolutions stay stacked: {reason}"));
            states.push(time);
        }
    }
    let shifts = rel_shift_to_gather::rel_shift_to_gather(&mut net);
    if shifts != s.layers {
        diagnostics.push(format!(
            "the relative shift of attention was found in {shifts} of {} layers",
            s.layers
        ));
    }
    let masks = simplify_masks::simplify(&mut net, s, lookahead);
    if masks != (s.layers, s.layers) {
        diagnostics.push(format!(
            "masks were simplified in {} attentions and {} convolutions of {} layers",
            masks.0, masks.1, s.layers
        ));
    }
    let products = conv_to_matmul::pointwise_conv_to_matmul(&mut net);
    if products < 2 * s.layers {
        diagnostics.push(format!(
            "{products} pointwise convolutions were found where {} were expected",
            2 * s.layers
        ));
    }
    fold_padding::fold_padding(&mut net);
    conv_to_matmul::depthwise_conv_to_2d(&mut net);
    if !hoist_frame_gather::hoist_frame_gather(&mut net) {
        diagnostics.push(
            "frames that are dropped are projected all the same: the last product of the subsampling was not found"
                .into(),
        );
    }
    squeeze_batch::squeeze_batch(&mut net);
    net.forward_outputs();
    net.into_onnx(graph);
    Ok(SpecializedEncoder {
        width,
        states,
        diagnostics,
    })
}

impl Graph {
    /// Puts every node behind those whose outputs it takes.
    pub(crate) fn sort(&mut self) {
        Net::from_onnx(self).into_onnx(self);
    }
}

/// Whether a rewrite understands graphs of this kind at all.
fn check_supported(graph: &Graph) -> Result<(), String> {
    let has_graphs = |node: &crate::NodeProto| {
        let is_graph = |a: &crate::onnx::AttributeProto| a.r#type() == AttributeType::Graph || a.g.is_some();
        node.attribute.iter().any(is_graph)
    };
    if graph.graph.node.iter().any(has_graphs) {
        return Err("it has branches or loops".into());
    }
    check_arity(graph)?;
    let opset = graph
        .header
        .opset_import
        .iter()
        .find(|set| set.domain().is_empty() || set.domain() == "ai.onnx");
    let opset = opset.map_or(0, |set| set.version());
    if opset < MIN_OPSET {
        return Err(format!(
            "it is of opset {opset}; plans are made for {MIN_OPSET} and newer"
        ));
    }
    Ok(())
}

/// Whether each node has the inputs and outputs that its operation must have: what follows relies on it.
fn check_arity(graph: &Graph) -> Result<(), String> {
    for node in &graph.graph.node {
        let inputs = match node.op_type() {
            "Constant" => 0,
            "Add" | "Conv" | "Div" | "Expand" | "Gather" | "MatMul" | "Mul" | "Pad" | "Reshape" | "Sub" | "Tile"
            | "Unsqueeze" => 2,
            "Slice" | "Where" => 3,
            _ => 1,
        };
        if node.input.len() < inputs || node.output.is_empty() {
            return Err(format!(
                "its node {:?} has not all inputs and outputs of {}",
                node.name(),
                node.op_type()
            ));
        }
    }
    Ok(())
}

/// Takes `outputs` frames from the one that input [`DROP_INPUT`] names, where the export takes all but a built-in number:
/// so their number is fixed, whatever the window drops.
///
/// The first window has no carry and so fewer mel frames, filled up at the end; the outputs of what was filled in lie
/// behind those that are taken.
fn keep_one_chunk(net: &mut Net, slice: usize, sub: usize, outputs: usize) {
    net.inputs.push(crate::value_info(
        DROP_INPUT,
        crate::onnx::tensor_proto::DataType::Int64 as i32,
        &[1],
    ));
    net.shapes.insert(DROP_INPUT.into(), vec![1]);
    net.nodes[sub].input[1] = DROP_INPUT.into();
    let chunk: Vec<i64> = (0..outputs as i64).collect();
    let chunk = net.add_ints(&chunk);
    let kept = net.add("Add", &[DROP_INPUT, &chunk], &[]);
    let frames = net.nodes[slice].input[0].clone();
    let output = net.nodes[slice].output[0].clone();
    net.detach(slice);
    net.add_as(&output, "Gather", &[&frames, &kept], &[("axis", Attribute::Int(1))]);
}

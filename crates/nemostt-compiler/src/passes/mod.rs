// SPDX-License-Identifier: MIT OR Apache-2.0

//! Passes over ONNX operators; `pipeline.rs` has their order.
//!
//! Exports have a dynamic batch size and window width, and compute shapes, masks and position tables in each step. Here
//! all windows get the same width ([`fix_width`]), so that all of that is folded into constants (`ir/fold.rs`) and the
//! rest can be rewritten.

mod batch;
pub(crate) mod cache_projected_kv;
mod clip_to_min_max;
pub(crate) mod conv_to_matmul;
pub(crate) mod fold_padding;
pub(crate) mod fp16_to_fp32;
pub(crate) mod hoist_frame_gather;
mod predictor;
pub(crate) mod quantize_int8;
pub(crate) mod rel_shift_to_gather;
pub(crate) mod simplify_masks;
mod split_length_graph;
pub(crate) mod split_prompt_matmul;
pub(crate) mod squeeze_batch;
#[cfg(test)]
mod tests;
pub(crate) mod unstack_caches;

use serde::{Deserialize, Serialize};

pub use self::batch::{READ_SLOTS_INPUT, SLOTS_INPUT};
pub use self::predictor::specialize_predictor;
pub use self::split_length_graph::{BoundaryTensor, LENGTH_GRAPH_INPUTS, LENGTHS, NEXT_LENGTHS, SplitGraph};
use crate::streaming_geometry::full_width;
use crate::{
    DROP_INPUT, Graph, PROMPT_INPUT, StreamingConfig, import::streaming_config::find_drop, ir::attribute::Attribute,
    onnx::attribute_proto::AttributeType,
};

/// Since this opset, axes and sizes are inputs of `Unsqueeze`, `Split` and others, not attributes.
const MIN_OPSET: i64 = 13;

/// A tensor that a step writes and the next step reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateSpec {
    /// The input that reads it.
    pub input: String,
    /// The output that writes it.
    pub output: String,
    /// Its shape.
    pub dims: Vec<usize>,
    /// `None` if `output` is the whole tensor for the next step. Otherwise `output` contains only this many new rows of
    /// the last axis but one, to be appended to the tensor; the oldest rows are dropped.
    pub new_rows: Option<usize>,
    /// Whether `output` is nevertheless the whole tensor, in which new rows have overwritten the oldest and nothing
    /// else has moved, so that input and output may share memory: see [`RING_HEAD_INPUT`](crate::RING_HEAD_INPUT).
    #[serde(default)]
    pub is_ring: bool,
}

impl StateSpec {
    /// The caches of an unmodified export: see [`StreamingConfig`].
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

/// A specialized encoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecializedEncoder {
    /// Width of all windows, in mel frames; shorter ones are padded with zeros.
    pub width: usize,
    /// The lookahead in encoder frames.
    pub lookahead: usize,
    /// The state of a stream, besides the length of the attention cache.
    pub states: Vec<StateSpec>,
}

/// Fixes the width of windows, and thereby the shapes of all inputs; returns the width. Does not fold anything.
///
/// # Errors
/// A sentence that says why this graph is not supported.
pub(crate) fn fix_width(graph: &mut Graph, streaming: &StreamingConfig, lookahead: usize) -> Result<usize, String> {
    check_supported(graph)?;
    let drop = find_drop(graph).map_err(|fault| fault.to_string())?;
    let width = full_width(lookahead);
    let s = streaming;
    keep_one_chunk(graph, drop.slice, drop.sub, lookahead + 1);

    let inputs: [(&str, &[usize]); 5] = [
        ("audio_signal", &[1, s.mels, width]),
        ("length", &[1]),
        ("cache_last_channel", &[1, s.layers, s.left_context, s.d_model]),
        ("cache_last_time", &[1, s.layers, s.d_model, s.conv_context]),
        ("cache_last_channel_len", &[1]),
    ];
    for (name, dims) in inputs {
        graph
            .fix_input(name, dims)
            .ok_or_else(|| format!("it has no input {name}"))?;
    }
    // Only multilingual models have it.
    graph.fix_input(PROMPT_INPUT, &[1]);
    graph.sort().ok_or("its nodes form a cycle")?;
    Ok(width)
}

/// Whether the passes support this kind of graph.
fn check_supported(graph: &Graph) -> Result<(), String> {
    let has_graphs = |node: &crate::NodeProto| {
        let is_graph = |a: &crate::onnx::AttributeProto| a.r#type() == AttributeType::Graph || a.g.is_some();
        node.attribute.iter().any(is_graph)
    };
    if graph.nodes.iter().any(has_graphs) {
        return Err("it has branches or loops".into());
    }
    let opset = graph.opset();
    if opset < MIN_OPSET {
        return Err(format!("its opset is {opset}; supported are {MIN_OPSET} and newer"));
    }
    Ok(())
}

/// Selects `outputs` frames starting at input [`DROP_INPUT`], instead of all frames after a constant one, so that the
/// number of outputs is fixed, whatever the window drops.
///
/// The first window has no cached frames and so fewer mel frames, padded at the end; the outputs of the padding come
/// after the selected ones.
fn keep_one_chunk(graph: &mut Graph, slice: usize, sub: usize, outputs: usize) {
    graph.inputs.push(crate::onnx::types::value_info(
        DROP_INPUT,
        crate::onnx::tensor_proto::DataType::Int64 as i32,
        &[1],
    ));
    graph.shapes.insert(DROP_INPUT.into(), vec![1]);
    graph.nodes[sub].input[1] = DROP_INPUT.into();
    let chunk: Vec<i64> = (0..outputs as i64).collect();
    let chunk = graph.add_ints(&chunk);
    let selected = graph.add("Add", &[DROP_INPUT, &chunk], &[]);
    let frames = graph.nodes[slice].input[0].clone();
    let output = graph.nodes[slice].output[0].clone();
    graph.detach(slice);
    graph.add_as(&output, "Gather", &[&frames, &selected], &[("axis", Attribute::Int(1))]);
}

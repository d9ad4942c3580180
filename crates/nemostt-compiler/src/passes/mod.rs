// SPDX-License-Identifier: MIT OR Apache-2.0

//! The passes over ONNX operators. `pipeline.rs` has their order.
//!
//! An export leaves batch size and window width open and computes shapes, masks and position tables in each step. Here every window
//! has one width ([`fix_width`]), so all of that is folded into constants (`ir/fold.rs`), and what is left can be rewritten.

pub(crate) mod cache_projected_kv;
pub(crate) mod conv_to_matmul;
pub(crate) mod fold_padding;
pub(crate) mod fp16_to_fp32;
pub(crate) mod hoist_frame_gather;
mod predictor;
pub(crate) mod quantize_int8;
pub(crate) mod rel_shift_to_gather;
pub(crate) mod simplify_masks;
mod split_length_graph;
pub(crate) mod squeeze_batch;
#[cfg(test)]
mod tests;
pub(crate) mod unstack_caches;

use serde::{Deserialize, Serialize};

pub use self::predictor::specialize_predictor;
pub use self::split_length_graph::{BoundaryTensor, LENGTHS, NEXT_LENGTHS, SplitGraph};
use crate::{
    DROP_INPUT, Graph, PROMPT_INPUT, StreamingConfig, import::streaming_config::carry_drop, ir::attribute::Attribute,
    onnx::attribute_proto::AttributeType,
};
use crate::{
    pipeline::{PassReport, Recorder},
    streaming_geometry::full_width,
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
    /// The lookahead in encoder frames.
    pub lookahead: usize,
    /// What a stream remembers, besides the length of the attention cache.
    pub states: Vec<StateSpec>,
}

/// [`Recorder::specialize`]. Returns what became of each pass, too.
///
/// # Errors
/// As there.
pub fn specialize(
    graph: &mut Graph,
    streaming: &StreamingConfig,
    lookahead: usize,
) -> Result<(SpecializedEncoder, Vec<PassReport>), String> {
    let mut recorder = Recorder::default();
    let specialized = recorder.specialize(graph, streaming, lookahead)?;
    Ok((specialized, recorder.reports))
}

/// Fixes the width of windows, and with it the shapes of all inputs; returns it. Nothing is computed of that here.
///
/// # Errors
/// A sentence that says why the passes do not understand this graph.
pub(crate) fn fix_width(graph: &mut Graph, streaming: &StreamingConfig, lookahead: usize) -> Result<usize, String> {
    check_supported(graph)?;
    let place = carry_drop(graph).map_err(|fault| fault.to_string())?;
    let width = full_width(lookahead);
    let s = streaming;
    keep_one_chunk(graph, place.slice, place.sub, lookahead + 1);

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
    // Multilingual models only.
    graph.fix_input(PROMPT_INPUT, &[1]);
    graph.sort().ok_or("its nodes wait for each other in a circle")?;
    Ok(width)
}

/// Whether a rewrite understands graphs of this kind at all.
fn check_supported(graph: &Graph) -> Result<(), String> {
    let has_graphs = |node: &crate::NodeProto| {
        let is_graph = |a: &crate::onnx::AttributeProto| a.r#type() == AttributeType::Graph || a.g.is_some();
        node.attribute.iter().any(is_graph)
    };
    if graph.nodes.iter().any(has_graphs) {
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
    for node in &graph.nodes {
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
fn keep_one_chunk(graph: &mut Graph, slice: usize, sub: usize, outputs: usize) {
    graph.inputs.push(crate::value_info(
        DROP_INPUT,
        crate::onnx::tensor_proto::DataType::Int64 as i32,
        &[1],
    ));
    graph.shapes.insert(DROP_INPUT.into(), vec![1]);
    graph.nodes[sub].input[1] = DROP_INPUT.into();
    let chunk: Vec<i64> = (0..outputs as i64).collect();
    let chunk = graph.add_ints(&chunk);
    let kept = graph.add("Add", &[DROP_INPUT, &chunk], &[]);
    let frames = graph.nodes[slice].input[0].clone();
    let output = graph.nodes[slice].output[0].clone();
    graph.detach(slice);
    graph.add_as(&output, "Gather", &[&frames, &kept], &[("axis", Attribute::Int(1))]);
}

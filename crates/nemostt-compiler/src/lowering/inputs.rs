// SPDX-License-Identifier: MIT OR Apache-2.0

//! The inputs of a program.

use std::collections::HashSet;

use super::{LoweredInput, views::swaps_last_axes};
use crate::{
    ElementType, Graph, NodeProto, TensorInfo,
    ir::{constant::attribute, graph::is_onnx_domain},
    onnx::tensor_proto::DataType,
};

/// The only input that the caller can write in another order of axes.
const AUDIO: &str = "audio_signal";

/// The inputs of the program. Audio that is transposed before anything else reads it is stored transposed.
pub(super) fn lowered_inputs(graph: &Graph) -> Result<Vec<LoweredInput>, String> {
    let index = graph.index();
    let input = |info: TensorInfo| {
        let dims: Option<Vec<usize>> = info.dims.iter().copied().collect();
        let mut dims = dims.ok_or_else(|| format!("the shape of its input {} is not fixed", info.name))?;
        // One that is an output, too, has a consumer outside of the graph.
        let consumers = index.consumers(&info.name).iter();
        let mut consumers = consumers.map(|&number| graph.nodes.get(number)).peekable();
        let is_transposed = info.name == AUDIO
            && dims.len() == 3
            && consumers.peek().is_some()
            && consumers.all(|node| node.is_some_and(swaps_last_axes));
        if is_transposed {
            dims.swap(1, 2);
        }
        Ok(LoweredInput {
            name: info.name,
            dims,
            is_transposed,
        })
    };
    graph.inputs().into_iter().map(input).collect()
}

/// Removes casts of float32 inputs to float32, which are left where an fp16 export is converted to fp32.
pub(super) fn remove_float_casts(graph: &mut Graph) {
    let inputs = graph
        .inputs()
        .into_iter()
        .filter(|input| input.element == ElementType::F32);
    let inputs: HashSet<String> = inputs.map(|input| input.name).collect();
    let is_no_op = |node: &NodeProto| {
        let casts_input = node.op_type() == "Cast" && node.input.first().is_some_and(|input| inputs.contains(input));
        is_onnx_domain(node.domain()) && casts_input && attribute(node, "to") == Some(DataType::Float as i64)
    };
    let outputs: HashSet<String> = graph.outputs().into_iter().map(|output| output.name).collect();
    let casts: Vec<(String, String)> = graph
        .nodes
        .iter()
        .filter(|node| is_no_op(node))
        .filter_map(|node| Some((node.output.first()?.clone(), node.input.first()?.clone())))
        .filter(|(output, _)| !outputs.contains(output))
        .collect();
    for (output, input) in casts {
        graph.remove_producer(&output);
        graph.rename_uses(&output, &input);
    }
}

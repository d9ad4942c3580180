// SPDX-License-Identifier: MIT OR Apache-2.0

//! Makes the number of dropped encoder frames an input of the graph.
//!
//! NeMo's export bakes `drop_extra_pre_encoded = 2` in, because tracing turns the Python integer into a constant. The
//! first window of a stream must drop nothing (and the second one of lookahead 0 drops one frame), so with an untouched
//! export the first two encoder frames, 160 ms of speech, are lost. With the constant replaced by an input, one graph
//! serves every window exactly.

use super::{Graph, onnx, streaming::carry_drop, value_info};

/// Name of the added input: int64, shape \[1\].
pub const DROP_INPUT: &str = "drop_extra_pre_encoded";

/// Replaces the baked-in drop of `graph` by the input [`DROP_INPUT`].
///
/// # Errors
/// A sentence that says what the graph lacks.
pub fn make_drop_an_input(graph: &mut Graph) -> Result<(), String> {
    let place = carry_drop(graph)?;
    let inner = &mut graph.graph;
    // Slice(data, starts, ends, axes, steps): starts has shape [1], as the input has.
    inner.node[place.slice].input[1] = DROP_INPUT.into();
    // Sub(length [B], 2): a scalar before, [1] now, which broadcasts the same way.
    inner.node[place.sub].input[1] = DROP_INPUT.into();
    let element = onnx::tensor_proto::DataType::Int64 as i32;
    inner.input.push(value_info(DROP_INPUT, element, &[1]));
    Ok(())
}

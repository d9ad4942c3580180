// SPDX-License-Identifier: MIT OR Apache-2.0

//! Makes the number of dropped encoder frames an input of the graph.
//!
//! NeMo's export contains `drop_extra_pre_encoded = 2` as a constant, because tracing converts Python integers to
//! constants. The first window of a stream must drop nothing (and the second one of lookahead 0 drops one frame), so
//! with an unmodified export the first two encoder frames, 160 ms of speech, are lost. With an input instead of the
//! constant, one graph works for all windows.

use crate::{ElementType, Graph, GraphError, TensorInfo, import::streaming_config::find_drop, ir::boundary::Side};

/// Name of the new input: int64, shape \[1\].
pub const DROP_INPUT: &str = "drop_extra_pre_encoded";

/// Replaces the constant drop of `graph` by the input [`DROP_INPUT`].
///
/// If all windows have the same width, only `chunk` frames after the dropped ones are kept: the first window has no
/// cached frames and so fewer mel frames, is padded at its end, and the outputs of the padding come after the chunk.
///
/// # Errors
/// If the graph does not contain the drop.
pub fn make_drop_an_input(graph: &mut Graph, chunk: Option<usize>) -> Result<(), GraphError> {
    let drop = find_drop(graph)?;
    // Slice(data, starts, ends, axes, steps): starts has shape [1], like the input.
    graph.nodes[drop.slice].input[1] = DROP_INPUT.into();
    // Sub(length [B], 2): the constant is a scalar, the input [1], which broadcasts to the same shape.
    graph.nodes[drop.sub].input[1] = DROP_INPUT.into();
    if let Some(chunk) = chunk {
        let end = graph.unique_name("kept_until");
        let frames = graph.unique_name("chunk");
        graph.add_constant(&frames, ElementType::I64, &[chunk as i64]);
        graph.nodes[drop.slice].input[2] = end.clone();
        // Inserts at the start, which invalidates the indices in `drop`.
        graph.prepend("Add", &[DROP_INPUT, &frames], &end);
    }
    graph.declare(
        Side::Input,
        &TensorInfo {
            name: DROP_INPUT.into(),
            element: ElementType::I64,
            dims: vec![Some(1)],
        },
    );
    Ok(())
}

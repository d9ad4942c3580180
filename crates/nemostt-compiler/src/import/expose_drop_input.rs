// SPDX-License-Identifier: MIT OR Apache-2.0

//! Makes the number of dropped encoder frames an input of the graph.
//!
//! NeMo's export bakes `drop_extra_pre_encoded = 2` in, because tracing turns the Python integer into a constant. The
//! first window of a stream must drop nothing (and the second one of lookahead 0 drops one frame), so with an untouched
//! export the first two encoder frames, 160 ms of speech, are lost. With the constant replaced by an input, one graph
//! serves every window exactly.

use crate::{ElementType, Graph, GraphError, TensorInfo, import::streaming_config::carry_drop, ir::boundary::Side};

/// Name of the added input: int64, shape \[1\].
pub const DROP_INPUT: &str = "drop_extra_pre_encoded";

/// Replaces the baked-in drop of `graph` by the input [`DROP_INPUT`].
///
/// Where all windows have one width, `chunk` frames are kept behind those that are dropped: the first window, which has no
/// carry and so fewer mel frames, is filled up at its end, and what comes of that lies behind.
///
/// # Errors
/// What the graph lacks.
pub fn make_drop_an_input(graph: &mut Graph, chunk: Option<usize>) -> Result<(), GraphError> {
    let place = carry_drop(graph)?;
    // Slice(data, starts, ends, axes, steps): starts has shape [1], as the input has.
    graph.graph.node[place.slice].input[1] = DROP_INPUT.into();
    // Sub(length [B], 2): a scalar before, [1] now, which broadcasts the same way.
    graph.graph.node[place.sub].input[1] = DROP_INPUT.into();
    if let Some(chunk) = chunk {
        let end = graph.unique_name("kept_until");
        let frames = graph.unique_name("chunk");
        graph.add_constant(&frames, ElementType::I64, &[chunk as i64]);
        graph.graph.node[place.slice].input[2] = end.clone();
        // In front of all others: the indices of `place` hold no longer.
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

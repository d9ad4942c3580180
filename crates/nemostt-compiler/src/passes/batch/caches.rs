// SPDX-License-Identifier: MIT OR Apache-2.0

//! Lets the graph compute whole caches. On a processor, whoever runs it appends new rows to a cache in place, which is less
//! work; on a device, that would be another kernel for each cache.

use crate::{Graph, StateSpec, ir::attribute::Attribute};

/// Replaces outputs that have only new rows by outputs that have the whole cache of the next step.
pub(super) fn make_whole(graph: &mut Graph, states: &mut [StateSpec]) -> Result<(), String> {
    for state in states {
        let Some(new_rows) = state.new_rows else { continue };
        let &[1, heads, rows, width] = &state.dims[..] else {
            return Err(format!("cache {} does not have four axes", state.input));
        };
        if state.is_ring || new_rows == 0 || new_rows >= rows {
            return Err(format!("{new_rows} new rows do not fit cache {}", state.input));
        }
        // Attention reads the new rows, too.
        let new = graph.new_name("new_rows");
        graph.rename_uses(&state.output, &new);
        graph.rename_output(&state.output, &new);
        graph.shapes.insert(new.clone(), vec![1, heads, new_rows, width]);
        let [start, end, axis] = [new_rows, rows, 2].map(|value| graph.add_ints(&[value as i64]));
        let kept = graph.add("Slice", &[&state.input, &start, &end, &axis], &[]);
        graph.add_as(&state.output, "Concat", &[&kept, &new], &[("axis", Attribute::Int(2))]);
        graph.fix_output(&state.output, &state.dims);
        state.new_rows = None;
    }
    Ok(())
}

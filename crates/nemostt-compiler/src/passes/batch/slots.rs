// SPDX-License-Identifier: MIT OR Apache-2.0

//! Keeps the caches of many streams in tensors \[slots, …\]: a run gathers the rows that [`READ_SLOTS_INPUT`] names, one
//! for each stream, and scatters the next caches to the rows that [`SLOTS_INPUT`] names.
//!
//! Both are the same for a stream in the middle of its audio. They differ where a stream begins, by reading a slot of
//! zeros, and where the caches that it reads are still needed, because they are part of a snapshot. So nothing has to be
//! cleared or copied on the device.
//!
//! Input and output of such a cache may share memory. ONNX Runtime does not know that they do, so the order of reads and
//! writes must follow from the graph: there is one read, the `Gather`, and the write depends on what it has read. All else
//! reads the gathered copy. `ScatterND` copies its input only if its output is elsewhere (`scatter_nd.cc`, on the CPU and
//! on CUDA).
//!
//! The slots that a run writes must be different from each other, except for those of padding, whose caches nobody reads.

use crate::{Graph, StateSpec, ir::attribute::Attribute};

/// Additional input: where the caches of each stream in the batch are read, int64 \[batch\].
pub const READ_SLOTS_INPUT: &str = "read_slots";

/// Additional input: where the next caches of each stream in the batch are written, int64 \[batch\].
pub const SLOTS_INPUT: &str = "slots";

/// The name of the axis of slots in the declarations of caches.
const SLOTS_AXIS: &str = "all_slots";

/// See [`Encoded::add_slots`](crate::Encoded::add_slots).
pub(super) fn add(graph: &mut Graph, states: &[StateSpec]) -> Result<(), String> {
    let added = [READ_SLOTS_INPUT, SLOTS_INPUT];
    if let Some(name) = added.iter().find(|name| graph.input(name).is_some()) {
        return Err(format!("it has an input {name} already"));
    }
    if let Some(state) = states.iter().find(|state| !depends(graph, state)) {
        return Err(format!("{} does not depend on {}", state.output, state.input));
    }
    added.iter().for_each(|name| graph.add_scalar_input(name));
    let axis = graph.add_ints(&[1]);
    // One index per row, as `ScatterND` expects it.
    let rows = graph.unique_name(SLOTS_INPUT);
    graph.add_as(&rows, "Unsqueeze", &[SLOTS_INPUT, &axis], &[]);
    for state in states {
        let [cached, next] = [&state.input, &state.output].map(|name| graph.unique_name(name));
        graph.rename_uses(&state.input, &cached);
        graph.add_as(
            &cached,
            "Gather",
            &[&state.input, READ_SLOTS_INPUT],
            &[("axis", Attribute::Int(0))],
        );
        graph.rename_uses(&state.output, &next);
        graph.rename_output(&state.output, &next);
        graph.add_as(&state.output, "ScatterND", &[&state.input, &rows, &next], &[]);
    }
    for info in graph.inputs.iter_mut().chain(&mut graph.outputs) {
        if added.contains(&info.name()) {
            super::name_first_axis(info, super::BATCH_AXIS);
        } else if states
            .iter()
            .any(|state| state.input == info.name() || state.output == info.name())
        {
            super::name_first_axis(info, SLOTS_AXIS);
        }
    }
    graph.clean_up();
    Ok(())
}

/// Whether the next cache is computed from the cache.
fn depends(graph: &Graph, state: &StateSpec) -> bool {
    let input = [state.input.clone()];
    let downstream = graph.downstream(&input);
    graph.input(&state.input).is_some() && downstream.contains(state.output.as_str())
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Stacks the caches of all layers again, for servers that keep them: such a server copies each cache of each stream into the
//! batch and out of it, so two large tensors are better than three for each layer. On CPU and GPU of this process, where
//! nothing is copied, [`unstack_caches`](crate::passes::unstack_caches) does the opposite.

use super::{BATCH_AXIS, name_first_axis};
use crate::{Graph, StateSpec, ir::attribute::Attribute};

/// Replaces caches that have the same name up to the first `/`, as the passes that make one cache many call them, by one
/// cache of that name: \[batch, caches, …\]. Its output is called like it, with `_next`.
pub(super) fn stack(graph: &mut Graph, states: &[StateSpec]) -> Result<Vec<StateSpec>, String> {
    let mut groups: Vec<(&str, Vec<&StateSpec>)> = Vec::new();
    let mut stacked = Vec::new();
    for state in states {
        let Some((name, _)) = state.input.split_once('/') else {
            stacked.push(state.clone());
            continue;
        };
        match groups.iter_mut().find(|(group, _)| *group == name) {
            Some((_, members)) => members.push(state),
            None => groups.push((name, vec![state])),
        }
    }
    for (name, members) in groups {
        stacked.push(stack_group(graph, name, &members)?);
    }
    graph.sort().ok_or("its nodes form a cycle")?;
    graph.clean_up();
    Ok(stacked)
}

fn stack_group(graph: &mut Graph, name: &str, members: &[&StateSpec]) -> Result<StateSpec, String> {
    let first = members.first().ok_or("there is no cache")?;
    if let Some(other) = members.iter().find(|other| other.dims != first.dims) {
        return Err(format!(
            "caches {} and {} have different shapes",
            first.input, other.input
        ));
    }
    let next = format!("{name}_next");
    if graph.input(name).is_some() || graph.output(&next).is_some() {
        return Err(format!("it has a tensor {name} or {next} already"));
    }
    let mut dims = first.dims.clone();
    dims.insert(1, members.len());
    let is_member = |tensor: &str| {
        members
            .iter()
            .any(|state| state.input == tensor || state.output == tensor)
    };
    graph.inputs.retain(|info| !is_member(info.name()));
    graph.outputs.retain(|info| !is_member(info.name()));

    graph.add_input(name, &dims);
    let axis = graph.add_ints(&[1]);
    let sizes = graph.add_ints(&vec![1; members.len()]);
    let parts: Vec<String> = members.iter().map(|_| graph.new_name("cache")).collect();
    graph.add_node(&parts, "Split", &[name, &sizes], &[("axis", Attribute::Int(1))]);
    let mut rows = Vec::new();
    for (part, state) in parts.iter().zip(members) {
        graph.add_as(&state.input, "Squeeze", &[part, &axis], &[]);
        rows.push(graph.add("Unsqueeze", &[&state.output, &axis], &[]));
    }
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    graph.add_as(&next, "Concat", &rows, &[("axis", Attribute::Int(1))]);
    graph.add_output(&next, &dims);
    let ends = graph.inputs.iter_mut().chain(&mut graph.outputs);
    for info in ends.filter(|info| info.name() == name || info.name() == next) {
        name_first_axis(info, BATCH_AXIS);
    }
    Ok(StateSpec {
        input: name.into(),
        output: next,
        dims,
        new_rows: None,
        is_ring: false,
    })
}

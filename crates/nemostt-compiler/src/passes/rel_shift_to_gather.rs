// SPDX-License-Identifier: MIT OR Apache-2.0

//! Replaces the relative shift by a gather, and computes only the positions that it selects.
//!
//! NeMo computes scores of every query for all 2(left + frames) - 1 relative positions, then pads, reshapes and slices
//! to move the score of key j for query i to (i, j) (Transformer-XL's `rel_shift`). Queries are the newest frames only,
//! so half of those scores are discarded. Here they are not computed, and the others are gathered.

use crate::Graph;
use crate::NodeProto;
use crate::ir::{
    attribute::Attribute,
    constant::{Constant, element_count},
    data_movement::PAD_ELEMENT,
    def_use::DefUse,
};

/// Maximum scores of a layer that are traced; published models have up to 200 000.
const MAX_SCORES: usize = 1 << 24;

/// The `MatMul` of queries and positions, and the data movement after it.
struct Shift {
    matmul: usize,
    /// The node whose output is the shifted scores.
    last: usize,
    /// The projection of the position table, and the table: \[1, positions, width\].
    projection: usize,
    table: String,
    heads: usize,
    frames: usize,
    keys: usize,
    /// For each (query, key), the index of the selected position.
    selected: Vec<usize>,
}

/// Rewrites all relative shifts; returns their number.
pub(crate) fn rel_shift_to_gather(graph: &mut Graph) -> usize {
    let index = graph.index();
    let found: Vec<Shift> = graph.find_all(&index, find);
    let mut done: Vec<((String, usize, usize), String)> = Vec::new();
    for shift in &found {
        let first = shift.selected.iter().min().copied().unwrap_or_default();
        let count = shift.selected.iter().max().map_or(0, |last| last + 1 - first);
        // All layers share one table.
        let key = (shift.table.clone(), first, count);
        let table = match done.iter().find(|(known, _)| *known == key) {
            Some((_, name)) => name.clone(),
            None => {
                let Some(name) = cut_table(graph, &shift.table, first, count) else {
                    continue;
                };
                done.push((key, name.clone()));
                name
            }
        };
        graph.nodes[shift.projection].input[0] = table;
        let scores = graph.nodes[shift.matmul].output[0].clone();
        let shifted = graph.nodes[shift.last].output[0].clone();
        graph.detach(shift.last);

        let sizes = [1, shift.heads as i64, (shift.frames * count) as i64];
        let shape = graph.add_ints(&sizes);
        let flat = graph.add("Reshape", &[&scores, &shape], &[]);
        let flat_index = |(pair, &position): (usize, &usize)| (pair / shift.keys * count + position - first) as i64;
        let indices: Vec<i64> = shift.selected.iter().enumerate().map(flat_index).collect();
        let indices = graph.add_value(&Constant::of_ints(vec![shift.frames, shift.keys], &indices));
        graph.add_as(&shifted, "Gather", &[&flat, &indices], &[("axis", Attribute::Int(2))]);
    }
    found.len()
}

fn cut_table(graph: &mut Graph, table: &str, first: usize, count: usize) -> Option<String> {
    let value = graph.value(table)?;
    let [1, _, width] = value.dims[..] else { return None };
    let row = value.raw.len().checked_div(value.dims[1])?;
    if first + count > value.dims[1] {
        return None;
    }
    let cut = Constant {
        dims: vec![1, count, width],
        raw: value.raw.slice(first * row..(first + count) * row),
        ..value
    };
    Some(graph.add_value(&cut))
}

fn find(graph: &Graph, index: &DefUse, number: usize) -> Option<Shift> {
    let matmul = &graph.nodes[number];
    if matmul.op_type() != "MatMul" {
        return None;
    }
    let &[1, heads, frames, positions] = graph.shape(&matmul.output[0])? else {
        return None;
    };
    // Positions are Transpose(Reshape(MatMul(table, weight))), each with a single consumer.
    let producer_of = |name: &str, operation: &str| -> Option<usize> {
        let producer = index.producer(name)?;
        (graph.nodes[producer].op_type() == operation && index.single_consumer(name).is_some()).then_some(producer)
    };
    let transpose = producer_of(matmul.input.get(1)?, "Transpose")?;
    let reshape = producer_of(&graph.nodes[transpose].input[0], "Reshape")?;
    let projection = producer_of(&graph.nodes[reshape].input[0], "MatMul")?;
    let [table, weight] = &graph.nodes[projection].input[..] else {
        return None;
    };
    let free = graph.value(&graph.nodes[reshape].input[1])?.ints()?.get(1) == Some(&-1);
    let table_dims = graph.shape(table)?;
    if !graph.is_constant(table) || !graph.is_constant(weight) || !free || table_dims.get(1) != Some(&positions) {
        return None;
    }

    let is_traceable = |dims: &[usize]| element_count(dims).is_some_and(|count| (1..=MAX_SCORES).contains(&count));
    if !is_traceable(&[heads, frames, positions]) {
        return None;
    }

    // Follows data movement as far as possible, and tracks the source of each element.
    let mut map: Vec<usize> = (0..heads * frames * positions).collect();
    let mut last = number;
    let moves = |node: &NodeProto| matches!(node.op_type(), "Pad" | "Reshape" | "Slice" | "Gather" | "Transpose");
    while let Some(user) = index.single_consumer(&graph.nodes[last].output[0]) {
        let node = &graph.nodes[user];
        let movement = graph
            .movement(node)
            .filter(|to| moves(node) && is_traceable(&to.dims) && node.input[0] == graph.nodes[last].output[0]);
        let Some(movement) = movement else { break };
        let source = |from: usize| if from == PAD_ELEMENT { PAD_ELEMENT } else { map[from] };
        map = movement.map().into_iter().map(source).collect();
        last = user;
    }
    let &[1, shifted_heads, shifted_frames, keys] = graph.shape(&graph.nodes[last].output[0])? else {
        return None;
    };
    if last == number || positions == 0 || keys == 0 || (shifted_heads, shifted_frames) != (heads, frames) {
        return None;
    }
    // The shift must be the same for all heads, and must not mix queries.
    let one = frames * keys;
    let selected: Vec<usize> = map.get(..one)?.iter().map(|from| from % positions).collect();
    let expected = |place: usize| {
        let (head, pair) = (place / one, place % one);
        (head * frames + pair / keys) * positions + selected[pair]
    };
    let regular = map
        .iter()
        .enumerate()
        .all(|(place, &from)| from != PAD_ELEMENT && from == expected(place));
    regular.then(|| Shift {
        matmul: number,
        last,
        projection,
        table: table.clone(),
        heads,
        frames,
        keys,
        selected,
    })
}

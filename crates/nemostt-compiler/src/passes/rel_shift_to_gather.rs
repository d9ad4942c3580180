// SPDX-License-Identifier: MIT OR Apache-2.0

//! The relative shift as one gather, over no more positions than are looked at.
//!
//! NeMo scores every query against all 2(left + frames) - 1 relative positions, then pads, reshapes and slices to bring
//! the score of key j for query i to place (i, j) (Transformer-XL's `rel_shift`). Queries are the newest frames only, so
//! half of those scores fall away. Here they are not computed, and the rest is gathered to its place.

use crate::NodeProto;
use crate::ir::{
    constant::{Constant, element_count},
    data_movement::PAD_ELEMENT,
    net::{Attribute, DefUse, Net},
};

/// Scores of one layer whose way is followed; published models have up to 200 000.
const MAX_SCORES: usize = 1 << 24;

/// One `MatMul` of queries and positions and the movements after it.
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
    /// For each (query, key) the position that is looked at.
    looked_at: Vec<usize>,
}

/// Rewrites every relative shift, and returns how many there were.
pub(crate) fn rel_shift_to_gather(net: &mut Net) -> usize {
    let index = net.index();
    let found: Vec<Shift> = net.find_all(&index, find);
    let mut done: Vec<((String, usize, usize), String)> = Vec::new();
    for shift in &found {
        let first = shift.looked_at.iter().min().copied().unwrap_or_default();
        let count = shift.looked_at.iter().max().map_or(0, |last| last + 1 - first);
        // The layers share one table.
        let key = (shift.table.clone(), first, count);
        let table = match done.iter().find(|(known, _)| *known == key) {
            Some((_, name)) => name.clone(),
            None => {
                let Some(name) = cut_table(net, &shift.table, first, count) else {
                    continue;
                };
                done.push((key, name.clone()));
                name
            }
        };
        net.nodes[shift.projection].input[0] = table;
        let scores = net.nodes[shift.matmul].output[0].clone();
        let shifted = net.nodes[shift.last].output[0].clone();
        net.detach(shift.last);

        let sizes = [1, shift.heads as i64, (shift.frames * count) as i64];
        let shape = net.add_ints(&sizes);
        let flat = net.add("Reshape", &[&scores, &shape], &[]);
        let place = |(pair, &position): (usize, &usize)| (pair / shift.keys * count + position - first) as i64;
        let places: Vec<i64> = shift.looked_at.iter().enumerate().map(place).collect();
        let places = net.add_value(&Constant::of_ints(vec![shift.frames, shift.keys], &places));
        net.add_as(&shifted, "Gather", &[&flat, &places], &[("axis", Attribute::Int(2))]);
    }
    found.len()
}

fn cut_table(net: &mut Net, table: &str, first: usize, count: usize) -> Option<String> {
    let value = net.value(table)?;
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
    Some(net.add_value(&cut))
}

fn find(net: &Net, index: &DefUse, number: usize) -> Option<Shift> {
    let matmul = &net.nodes[number];
    if matmul.op_type() != "MatMul" {
        return None;
    }
    let &[1, heads, frames, positions] = net.shape(&matmul.output[0])? else {
        return None;
    };
    // Positions: Transpose(Reshape(MatMul(table, weight))), each for this product alone.
    let made = |name: &str, operation: &str| -> Option<usize> {
        let producer = index.producer(name)?;
        (net.nodes[producer].op_type() == operation && index.single_consumer(name).is_some()).then_some(producer)
    };
    let transpose = made(matmul.input.get(1)?, "Transpose")?;
    let reshape = made(&net.nodes[transpose].input[0], "Reshape")?;
    let projection = made(&net.nodes[reshape].input[0], "MatMul")?;
    let [table, weight] = &net.nodes[projection].input[..] else {
        return None;
    };
    let free = net.value(&net.nodes[reshape].input[1])?.ints()?.get(1) == Some(&-1);
    let table_dims = net.shape(table)?;
    if !net.is_constant(table) || !net.is_constant(weight) || !free || table_dims.get(1) != Some(&positions) {
        return None;
    }

    let held = |dims: &[usize]| element_count(dims).is_some_and(|count| (1..=MAX_SCORES).contains(&count));
    if !held(&[heads, frames, positions]) {
        return None;
    }

    // The movements, as far as they go, and where they bring each score.
    let mut map: Vec<usize> = (0..heads * frames * positions).collect();
    let mut last = number;
    let moves = |node: &NodeProto| matches!(node.op_type(), "Pad" | "Reshape" | "Slice" | "Gather" | "Transpose");
    while let Some(user) = index.single_consumer(&net.nodes[last].output[0]) {
        let node = &net.nodes[user];
        let movement = net
            .movement(node)
            .filter(|to| moves(node) && held(&to.dims) && node.input[0] == net.nodes[last].output[0]);
        let Some(movement) = movement else { break };
        let source = |from: usize| if from == PAD_ELEMENT { PAD_ELEMENT } else { map[from] };
        map = movement.map().into_iter().map(source).collect();
        last = user;
    }
    let &[1, shifted_heads, shifted_frames, keys] = net.shape(&net.nodes[last].output[0])? else {
        return None;
    };
    if last == number || positions == 0 || keys == 0 || (shifted_heads, shifted_frames) != (heads, frames) {
        return None;
    }
    // The same for every head, and each query's scores stay its own.
    let one = frames * keys;
    let looked_at: Vec<usize> = map.get(..one)?.iter().map(|from| from % positions).collect();
    let expected = |place: usize| {
        let (head, pair) = (place / one, place % one);
        (head * frames + pair / keys) * positions + looked_at[pair]
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
        looked_at,
    })
}

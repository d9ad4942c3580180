// SPDX-License-Identifier: MIT OR Apache-2.0

//! Caches projected keys and values instead of the inputs of their projections.
//!
//! NeMo caches the input of each attention layer, and projects cached and new frames to keys and values in every step:
//! 72 rows for 2 new ones at lookahead 80 ms. A projection processes each frame independently, so its results can be
//! cached. While the cache fills, its empty rows are zero here and the projection's bias there; both are masked.

use crate::{
    Graph,
    ir::{
        attribute::Attribute,
        constant::{attribute_list, element_count},
        def_use::DefUse,
    },
    passes::{StateSpec, unstack_caches},
};

/// One projection of cached and new frames: `MatMul` with a constant, optionally `Add` of a bias, optionally a split
/// into heads.
struct Projection {
    matmul: usize,
    /// The last node that processes each frame independently; equal to `matmul` without a bias.
    last: usize,
    heads: Option<Heads>,
}

/// `Reshape` to \[1, frames, heads, width\] and the following `Transpose`.
struct Heads {
    reshape: usize,
    transpose: usize,
    heads: usize,
    width: usize,
    /// Whether frames are the last axis (for keys) instead of the last but one.
    frames_last: bool,
    /// The single `MatMul` that reads them, as its second input.
    matmul: Option<usize>,
}

/// Rewrites all layers, or returns why that is not possible.
pub(crate) fn cache_projected_kv(graph: &mut Graph, input: &str, output: &str) -> Result<Vec<StateSpec>, String> {
    let found = unstack_caches::layer_caches(graph, input, output, 1)?;
    let index = graph.index();
    let mut layers = Vec::new();
    for (layer, cache) in found.into_iter().enumerate() {
        let reason = |what: &str| format!("attention of layer {layer}: {what}");
        let [1, left, width] = graph.shape(&cache.cached).unwrap_or_default()[..] else {
            return Err(reason("its cache is not [1, frames, width]"));
        };
        let [1, frames, new_width] = graph.shape(&cache.new).unwrap_or_default()[..] else {
            return Err(reason("the new frames are not [1, frames, width]"));
        };
        if new_width != width || frames > left {
            return Err(reason("the new frames do not match its cache"));
        }
        if !is_sliding_window(graph, &index, &cache, left, frames, width) {
            return Err(reason("its next cache does not contain the newest frames"));
        }
        let concatenated = &graph.nodes[cache.concat].output[0];
        let consumers: Vec<usize> = index.consumers(concatenated).to_vec();
        let projections = consumers
            .iter()
            .map(|&user| projection(graph, &index, user, concatenated));
        let projections: Option<Vec<Projection>> = projections.collect();
        let projections = projections.ok_or_else(|| reason("its cache is used for more than projections"))?;
        layers.push((cache, projections, left, frames));
    }

    let mut states = Vec::new();
    for (layer, (cache, projections, left, frames)) in layers.into_iter().enumerate() {
        for (number, projection) in projections.iter().enumerate() {
            let name = format!("{input}/{layer}/{number}");
            states.push(rewrite(graph, projection, &cache.new, name, left, frames));
        }
    }
    unstack_caches::remove_io(graph, input, output);
    Ok(states)
}

/// Whether the next cache consists of the cache without its oldest frames, and the new frames.
fn is_sliding_window(
    graph: &Graph,
    index: &DefUse,
    cache: &unstack_caches::LayerCache,
    left: usize,
    frames: usize,
    width: usize,
) -> bool {
    let found = || {
        let concat = &graph.nodes[index.producer(&cache.next)?];
        let [kept, new] = &concat.input[..] else { return None };
        let slice = &graph.nodes[index.producer(kept)?];
        let movement = graph.movement(slice)?;
        // Otherwise the map could have any size.
        let as_many = element_count(&movement.dims) == (left * width).checked_sub(frames * width);
        let newest =
            as_many && slice.input[0] == cache.cached && movement.map().into_iter().eq(frames * width..left * width);
        Some(
            concat.op_type() == "Concat"
                && newest
                && *new == cache.new
                && graph.shape(&cache.next)?.get(1) == Some(&left),
        )
    };
    found().unwrap_or(false)
}

fn projection(graph: &Graph, index: &DefUse, user: usize, concatenated: &str) -> Option<Projection> {
    let matmul = graph.nodes.get(user)?;
    let weight = matmul.input.get(1)?;
    if matmul.op_type() != "MatMul" || matmul.input[0] != concatenated || !graph.is_constant(weight) {
        return None;
    }
    let mut last = user;
    if let Some(add) = index.single_consumer(&matmul.output[0]) {
        let node = &graph.nodes[add];
        // A bias is the same for all frames.
        let bias = node.input.iter().find(|name| **name != matmul.output[0]);
        let is_bias = |name: &String| graph.is_constant(name) && graph.shape(name).is_some_and(|dims| dims.len() <= 1);
        if node.op_type() == "Add" && bias.is_some_and(is_bias) {
            last = add;
        }
    }
    Some(Projection {
        matmul: user,
        last,
        heads: heads(graph, index, &graph.nodes[last].output[0]),
    })
}

fn heads(graph: &Graph, index: &DefUse, projected: &str) -> Option<Heads> {
    let reshape = index.single_consumer(projected)?;
    let split = &graph.nodes[reshape].output[0];
    let transpose = index.single_consumer(split)?;
    let (&[1, frames, heads, width], &[1, all, _]) = (graph.shape(split)?, graph.shape(projected)?) else {
        return None;
    };
    let frames_last = match attribute_list(&graph.nodes[transpose], "perm")? {
        [0, 2, 1, 3] => false,
        [0, 2, 3, 1] => true,
        _ => return None,
    };
    let transposed = &graph.nodes[transpose].output[0];
    let matmul = index.single_consumer(transposed).filter(|&user| {
        let node = &graph.nodes[user];
        node.op_type() == "MatMul" && node.input[1] == *transposed && node.input[0] != *transposed
    });
    let matches = graph.nodes[reshape].op_type() == "Reshape" && graph.nodes[transpose].op_type() == "Transpose";
    (matches && frames == all).then_some(Heads {
        reshape,
        transpose,
        heads,
        width,
        frames_last,
        matmul,
    })
}

/// Projects only the new frames, and concatenates the result with a cache of results.
fn rewrite(
    graph: &mut Graph,
    projection: &Projection,
    new: &str,
    name: String,
    left: usize,
    frames: usize,
) -> StateSpec {
    graph.nodes[projection.matmul].input[0] = new.into();
    let projected = graph.nodes[projection.last].output[0].clone();
    let unique_name = graph.new_name("projected");
    // In between is at most the bias.
    let matmul = graph.nodes[projection.matmul].output[0].clone();
    let width = graph
        .shape(&matmul)
        .and_then(<[usize]>::last)
        .copied()
        .unwrap_or_default();
    graph.shapes.insert(matmul, vec![1, frames, width]);
    graph.nodes[projection.last].output[0].clone_from(&unique_name);
    graph.shapes.insert(unique_name.clone(), vec![1, frames, width]);

    let next = format!("{name}/next");
    let mut state = StateSpec {
        input: name,
        output: next,
        dims: vec![1, left, width],
        new_rows: None,
        is_ring: false,
    };
    let Some(heads) = &projection.heads else {
        join(graph, &state, &unique_name, &projected, frames, 1);
        return state;
    };
    let shape = graph.add_ints(&[1, frames as i64, heads.heads as i64, heads.width as i64]);
    let split = graph.add("Reshape", &[&unique_name, &shape], &[]);
    // The new rows are an output of the graph, so that the cache need not be copied.
    graph.add_as(
        &state.output,
        "Transpose",
        &[&split],
        &[("perm", Attribute::Ints(&[0, 2, 1, 3]))],
    );
    state.dims = vec![1, heads.heads, left, heads.width];
    let concatenated = graph.nodes[heads.transpose].output[0].clone();
    // These nodes have no consumers any more.
    for node in [heads.reshape, heads.transpose] {
        graph.detach(node);
    }
    match heads.matmul {
        Some(matmul) => {
            graph.add_input(&state.input, &state.dims);
            graph.add_output(&state.output, &[1, heads.heads, frames, heads.width]);
            state.new_rows = Some(frames);
            split_matmul(graph, matmul, &state, heads.frames_last, left, frames);
        }
        None => {
            let rows = graph.new_name("rows");
            graph.rename_output(&state.output, &rows);
            let whole = if heads.frames_last {
                graph.new_name("keys")
            } else {
                concatenated.clone()
            };
            join(graph, &state, &rows, &whole, frames, 2);
            if heads.frames_last {
                graph.add_as(&concatenated, "Transpose", &[&whole], &[SWAP_LAST_AXES]);
            }
        }
    }
    state
}

/// Swaps the last two of four axes.
const SWAP_LAST_AXES: (&str, Attribute<'_>) = ("perm", Attribute::Ints(&[0, 1, 3, 2]));

/// Concatenates cache and new rows into `whole`, and slices the next cache from it.
fn join(graph: &mut Graph, state: &StateSpec, new: &str, whole: &str, frames: usize, axis: i64) {
    graph.add_input(&state.input, &state.dims);
    graph.add_as(whole, "Concat", &[&state.input, new], &[("axis", Attribute::Int(axis))]);
    let left = state.dims[axis as usize];
    let [start, end, along] = [frames as i64, (left + frames) as i64, axis].map(|value| graph.add_ints(&[value]));
    graph.add_as(&state.output, "Slice", &[whole, &start, &end, &along], &[]);
    graph.add_output(&state.output, &state.dims);
}

/// Splits a `MatMul` into one with the cached and one with the new rows, so that these are never concatenated: only the
/// attention scores are, which are a few values per head.
fn split_matmul(graph: &mut Graph, matmul: usize, state: &StateSpec, is_keys: bool, left: usize, frames: usize) {
    let other = graph.nodes[matmul].input[0].clone();
    let output = graph.nodes[matmul].output[0].clone();
    graph.detach(matmul);
    if is_keys {
        // Queries times keys: concatenated scores.
        let parts = [&state.input, &state.output].map(|keys| {
            let transposed = graph.add("Transpose", &[keys], &[SWAP_LAST_AXES]);
            graph.add("MatMul", &[&other, &transposed], &[])
        });
        graph.add_as(
            &output,
            "Concat",
            &[&parts[0], &parts[1]],
            &[("axis", Attribute::Int(3))],
        );
    } else {
        // Weights times values: the sum of both products.
        let sizes = graph.add_ints(&[left as i64, frames as i64]);
        let scores = ["old", "new"].map(|what| graph.new_name(what));
        graph.add_node(&scores, "Split", &[&other, &sizes], &[("axis", Attribute::Int(3))]);
        let parts = [(&scores[0], &state.input), (&scores[1], &state.output)];
        let parts = parts.map(|(scores, values)| graph.add("MatMul", &[scores, values], &[]));
        graph.add_as(&output, "Add", &[&parts[0], &parts[1]], &[]);
    }
}

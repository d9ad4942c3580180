// SPDX-License-Identifier: MIT OR Apache-2.0

//! Caches keys and values in place of the inputs they are computed from.
//!
//! NeMo caches the input of each attention layer and projects cache and new frames to keys and values at every step:
//! 72 rows for 2 new ones at lookahead 80 ms. A projection acts on each frame alone, so what it gave for a frame can be
//! kept. While the cache fills, its empty rows are zeros here and the projection's bias there; both are masked.

use crate::{
    ir::{
        constant::{attribute_list, element_count},
        net::{Attribute, DefUse, Net},
    },
    passes::{StateSpec, unstack_caches},
};

/// One projection of the joined frames: `MatMul` by a constant, perhaps `Add` of one, perhaps cut into heads.
struct Projection {
    matmul: usize,
    /// The last node that acts on each frame alone; the same as `matmul` without a bias.
    last: usize,
    heads: Option<Heads>,
}

/// `Reshape` to \[1, frames, heads, width\] and the `Transpose` after it.
struct Heads {
    reshape: usize,
    transpose: usize,
    heads: usize,
    width: usize,
    /// Whether frames come last (for keys), and not second to last.
    frames_last: bool,
    /// The one product they are taken for, as second factor.
    product: Option<usize>,
}

/// Rewrites all layers, or says what is in the way.
pub(crate) fn cache_projected_kv(net: &mut Net, input: &str, output: &str) -> Result<Vec<StateSpec>, String> {
    let found = unstack_caches::layer_caches(net, input, output, 1)?;
    let index = net.index();
    let mut layers = Vec::new();
    for (layer, cache) in found.into_iter().enumerate() {
        let reason = |what: &str| format!("attention of layer {layer}: {what}");
        let [1, left, width] = net.shape(&cache.cached).unwrap_or_default()[..] else {
            return Err(reason("its cache is not [1, frames, width]"));
        };
        let [1, frames, new_width] = net.shape(&cache.new).unwrap_or_default()[..] else {
            return Err(reason("what is new is not [1, frames, width]"));
        };
        if new_width != width || frames > left {
            return Err(reason("what is new does not fit its cache"));
        }
        if !is_sliding_window(net, &index, &cache, left, frames, width) {
            return Err(reason("it does not keep the newest frames"));
        }
        let joined = &net.nodes[cache.concat].output[0];
        let consumers: Vec<usize> = index.consumers(joined).to_vec();
        let projections = consumers.iter().map(|&user| projection(net, &index, user, joined));
        let projections: Option<Vec<Projection>> = projections.collect();
        let projections = projections.ok_or_else(|| reason("its cache is used for more than projections"))?;
        layers.push((cache, projections, left, frames));
    }

    let mut states = Vec::new();
    for (layer, (cache, projections, left, frames)) in layers.into_iter().enumerate() {
        for (number, projection) in projections.iter().enumerate() {
            let name = format!("{input}/{layer}/{number}");
            states.push(rewrite(net, projection, &cache.new, name, left, frames));
        }
    }
    unstack_caches::remove_io(net, input, output);
    Ok(states)
}

/// Whether the next cache is the cache without its oldest frames and what is new.
fn is_sliding_window(
    net: &Net,
    index: &DefUse,
    cache: &unstack_caches::LayerCache,
    left: usize,
    frames: usize,
    width: usize,
) -> bool {
    let found = || {
        let concat = &net.nodes[index.producer(&cache.next)?];
        let [kept, new] = &concat.input[..] else { return None };
        let slice = &net.nodes[index.producer(kept)?];
        let movement = net.movement(slice)?;
        // Else the map might be of any size.
        let as_many = element_count(&movement.dims) == (left * width).checked_sub(frames * width);
        let newest =
            as_many && slice.input[0] == cache.cached && movement.map().into_iter().eq(frames * width..left * width);
        Some(
            concat.op_type() == "Concat"
                && newest
                && *new == cache.new
                && net.shape(&cache.next)?.get(1) == Some(&left),
        )
    };
    found().unwrap_or(false)
}

fn projection(net: &Net, index: &DefUse, user: usize, joined: &str) -> Option<Projection> {
    let matmul = net.nodes.get(user)?;
    let weight = matmul.input.get(1)?;
    if matmul.op_type() != "MatMul" || matmul.input[0] != joined || !net.is_constant(weight) {
        return None;
    }
    let mut last = user;
    if let Some(add) = index.single_consumer(&matmul.output[0]) {
        let node = &net.nodes[add];
        // A bias: the same for every frame.
        let bias = node.input.iter().find(|name| **name != matmul.output[0]);
        let is_bias = |name: &String| net.is_constant(name) && net.shape(name).is_some_and(|dims| dims.len() <= 1);
        if node.op_type() == "Add" && bias.is_some_and(is_bias) {
            last = add;
        }
    }
    Some(Projection {
        matmul: user,
        last,
        heads: heads(net, index, &net.nodes[last].output[0]),
    })
}

fn heads(net: &Net, index: &DefUse, projected: &str) -> Option<Heads> {
    let reshape = index.single_consumer(projected)?;
    let cut = &net.nodes[reshape].output[0];
    let transpose = index.single_consumer(cut)?;
    let (&[1, frames, heads, width], &[1, all, _]) = (net.shape(cut)?, net.shape(projected)?) else {
        return None;
    };
    let frames_last = match attribute_list(&net.nodes[transpose], "perm")? {
        [0, 2, 1, 3] => false,
        [0, 2, 3, 1] => true,
        _ => return None,
    };
    let turned = &net.nodes[transpose].output[0];
    let product = index.single_consumer(turned).filter(|&user| {
        let node = &net.nodes[user];
        node.op_type() == "MatMul" && node.input[1] == *turned && node.input[0] != *turned
    });
    let right = net.nodes[reshape].op_type() == "Reshape" && net.nodes[transpose].op_type() == "Transpose";
    (right && frames == all).then_some(Heads {
        reshape,
        transpose,
        heads,
        width,
        frames_last,
        product,
    })
}

/// Projects `new` alone, and joins the result with a cache of results.
fn rewrite(net: &mut Net, projection: &Projection, new: &str, name: String, left: usize, frames: usize) -> StateSpec {
    net.nodes[projection.matmul].input[0] = new.into();
    let projected = net.nodes[projection.last].output[0].clone();
    let unique_name = net.new_name("projected");
    // Between the two there is at most the bias.
    let product = net.nodes[projection.matmul].output[0].clone();
    let width = net
        .shape(&product)
        .and_then(<[usize]>::last)
        .copied()
        .unwrap_or_default();
    net.shapes.insert(product, vec![1, frames, width]);
    net.nodes[projection.last].output[0].clone_from(&unique_name);
    net.shapes.insert(unique_name.clone(), vec![1, frames, width]);

    let next = format!("{name}/next");
    let mut state = StateSpec {
        input: name,
        output: next,
        dims: vec![1, left, width],
        new_rows: None,
        is_ring: false,
    };
    let Some(heads) = &projection.heads else {
        join(net, &state, &unique_name, &projected, frames, 1);
        return state;
    };
    let shape = net.add_ints(&[1, frames as i64, heads.heads as i64, heads.width as i64]);
    let cut = net.add("Reshape", &[&unique_name, &shape], &[]);
    // The caller of the graph gets these, so that the cache need not be written anew.
    net.add_as(
        &state.output,
        "Transpose",
        &[&cut],
        &[("perm", Attribute::Ints(&[0, 2, 1, 3]))],
    );
    state.dims = vec![1, heads.heads, left, heads.width];
    let joined = net.nodes[heads.transpose].output[0].clone();
    // Nobody takes their outputs any more.
    for gone in [heads.reshape, heads.transpose] {
        net.detach(gone);
    }
    match heads.product {
        Some(product) => {
            net.add_input(&state.input, &state.dims);
            net.add_output(&state.output, &[1, heads.heads, frames, heads.width]);
            state.new_rows = Some(frames);
            split_matmul(net, product, &state, heads.frames_last, left, frames);
        }
        None => {
            let rows = net.new_name("rows");
            net.rename_output(&state.output, &rows);
            let whole = if heads.frames_last {
                net.new_name("keys")
            } else {
                joined.clone()
            };
            join(net, &state, &rows, &whole, frames, 2);
            if heads.frames_last {
                net.add_as(&joined, "Transpose", &[&whole], &[SWAP_LAST_AXES]);
            }
        }
    }
    state
}

/// Exchanges the last two of four axes.
const SWAP_LAST_AXES: (&str, Attribute<'_>) = ("perm", Attribute::Ints(&[0, 1, 3, 2]));

/// Joins a cache and what is new to `whole`, and cuts the next cache from that.
fn join(net: &mut Net, state: &StateSpec, new: &str, whole: &str, frames: usize, axis: i64) {
    net.add_input(&state.input, &state.dims);
    net.add_as(whole, "Concat", &[&state.input, new], &[("axis", Attribute::Int(axis))]);
    let left = state.dims[axis as usize];
    let [start, end, along] = [frames as i64, (left + frames) as i64, axis].map(|value| net.add_ints(&[value]));
    net.add_as(&state.output, "Slice", &[whole, &start, &end, &along], &[]);
    net.add_output(&state.output, &state.dims);
}

/// Computes a product with cache and new rows part by part, so that they are never joined: what is joined or parted
/// instead is the attention's scores, a few numbers for each head.
fn split_matmul(net: &mut Net, product: usize, state: &StateSpec, is_keys: bool, left: usize, frames: usize) {
    let other = net.nodes[product].input[0].clone();
    let output = net.nodes[product].output[0].clone();
    net.detach(product);
    if is_keys {
        // Queries by keys: scores side by side.
        let parts = [&state.input, &state.output].map(|keys| {
            let turned = net.add("Transpose", &[keys], &[SWAP_LAST_AXES]);
            net.add("MatMul", &[&other, &turned], &[])
        });
        net.add_as(
            &output,
            "Concat",
            &[&parts[0], &parts[1]],
            &[("axis", Attribute::Int(3))],
        );
    } else {
        // Scores by values: two sums.
        let sizes = net.add_ints(&[left as i64, frames as i64]);
        let scores = ["old", "new"].map(|what| net.new_name(what));
        net.add_node(&scores, "Split", &[&other, &sizes], &[("axis", Attribute::Int(3))]);
        let parts = [(&scores[0], &state.input), (&scores[1], &state.output)];
        let parts = parts.map(|(scores, values)| net.add("MatMul", &[scores, values], &[]));
        net.add_as(&output, "Add", &[&parts[0], &parts[1]], &[]);
    }
}

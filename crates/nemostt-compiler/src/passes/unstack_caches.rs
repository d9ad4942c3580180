// SPDX-License-Identifier: MIT OR Apache-2.0

//! Finds the cache of each layer: how an input is split into layers, and how an output is stacked.
//!
//! NeMo's export stacks the caches of all layers. In each step, the graph splits them (`Transpose`, `Gather`) and
//! stacks them again (`Unsqueeze`, `Concat`, `Transpose`): two copies of everything. Here each layer gets its own
//! tensors.

use crate::{
    Graph,
    ir::{
        constant::{attribute, attribute_list, axis_of},
        def_use::DefUse,
    },
    passes::StateSpec,
};

/// Where a layer uses its cache.
pub(crate) struct LayerCache {
    /// The cache of this layer: \[1, …\].
    pub cached: String,
    /// The `Concat` of cache and new frames.
    pub concat: usize,
    /// The new frames.
    pub new: String,
    /// The cache of the next step.
    pub next: String,
}

/// The caches of all layers in `input` \[1, layers, …\] and `output`, which are concatenated with new frames along
/// `axis`.
pub(crate) fn layer_caches(graph: &Graph, input: &str, output: &str, axis: usize) -> Result<Vec<LayerCache>, String> {
    let index = graph.index();
    let count = graph.shape(input).and_then(|dims| dims.get(1)).copied();
    let count = count.ok_or_else(|| format!("it has no input {input} of known shape"))?;
    let nexts = stacked(graph, &index, output)
        .filter(|nexts| nexts.len() == count)
        .ok_or_else(|| format!("output {output} is not stacked from {count} layers"))?;
    let mut found: Vec<Option<LayerCache>> = (0..count).map(|_| None).collect();
    for (number, node) in graph.nodes.iter().enumerate() {
        let [cached, new] = &node.input[..] else { continue };
        let Some(layer) = layer_of(graph, &index, cached, input) else {
            continue;
        };
        if node.op_type() != "Concat" {
            continue;
        }
        let rank = graph.shape(cached).map_or(0, <[usize]>::len);
        if attribute(node, "axis").and_then(|axis| axis_of(axis, rank)) != Some(axis) || graph.shape(new).is_none() {
            continue;
        }
        // A layer concatenates its cache once; in attention, a second time to slice the next cache.
        let cache = LayerCache {
            cached: cached.clone(),
            concat: number,
            new: new.clone(),
            next: nexts[layer].clone(),
        };
        if found[layer].replace(cache).is_some() {
            return Err(format!("layer {layer} concatenates {input} with more than one tensor"));
        }
    }
    let missing = |(layer, cache): (usize, Option<LayerCache>)| {
        cache.ok_or_else(|| format!("layer {layer} does not concatenate {input} with new frames"))
    };
    found.into_iter().enumerate().map(missing).collect()
}

/// The index of the layer whose part of `input` is `name`.
fn layer_of(graph: &Graph, index: &DefUse, name: &str, input: &str) -> Option<usize> {
    let gather = &graph.nodes[index.producer(name)?];
    let number = graph
        .value(gather.input.get(1)?)
        .filter(|value| value.dims.is_empty())?
        .int()?;
    if gather.op_type() != "Gather" {
        return None;
    }
    let stack = &gather.input[0];
    let rank = graph.shape(input)?.len();
    let axis = axis_of(attribute(gather, "axis").unwrap_or(0), rank)?;
    let layers_at = match stack == input {
        true => 1,
        false => {
            let transpose = &graph.nodes[index.producer(stack)?];
            (is_layers_first(
                transpose.input.first()?,
                input,
                transpose.op_type(),
                attribute_list(transpose, "perm")?,
            ))
            .then_some(0)?
        }
    };
    (axis == layers_at)
        .then(|| axis_of(number, graph.shape(input)?[1]))
        .flatten()
}

/// Whether a transpose of `of` moves the layers, the second axis, to the front, or back.
fn is_layers_first(of: &str, input: &str, operation: &str, perm: &[i64]) -> bool {
    operation == "Transpose" && of == input && perm == [1, 0, 2, 3]
}

/// The tensors that `output` is stacked from, one per layer.
fn stacked(graph: &Graph, index: &DefUse, output: &str) -> Option<Vec<String>> {
    let last = &graph.nodes[index.producer(output)?];
    let (concat, axis) = match last.op_type() {
        "Transpose" if attribute_list(last, "perm") == Some(&[1, 0, 2, 3]) => {
            (&graph.nodes[index.producer(&last.input[0])?], 0)
        }
        _ => (last, 1),
    };
    if concat.op_type() != "Concat" || attribute(concat, "axis") != Some(axis) {
        return None;
    }
    let part = |name: &String| {
        let unsqueeze = &graph.nodes[index.producer(name)?];
        let axes = graph.value(unsqueeze.input.get(1)?)?.ints()?;
        (unsqueeze.op_type() == "Unsqueeze" && axes == [axis]).then(|| unsqueeze.input[0].clone())
    };
    concat.input.iter().map(part).collect()
}

/// Replaces `input` and `output` by inputs and outputs for each layer, and returns these. The computations of the
/// layers are not changed.
pub(crate) fn unstack_caches(
    graph: &mut Graph,
    input: &str,
    output: &str,
    axis: usize,
) -> Result<Vec<StateSpec>, String> {
    let caches = layer_caches(graph, input, output, axis)?;
    let mut states = Vec::new();
    for (layer, cache) in caches.iter().enumerate() {
        let dims = graph.shape(&cache.cached).map(<[usize]>::to_vec);
        let dims = dims.filter(|dims| graph.shape(&cache.next) == Some(dims));
        let dims = dims.ok_or_else(|| format!("the next cache of layer {layer} has another shape than {input}"))?;
        states.push(StateSpec {
            input: format!("{input}/{layer}"),
            output: cache.next.clone(),
            dims,
            new_rows: None,
            is_ring: false,
        });
    }
    for (state, cache) in states.iter().zip(&caches) {
        graph.add_input(&state.input, &state.dims);
        graph.rename_uses(&cache.cached, &state.input);
        graph.add_output(&state.output, &state.dims);
    }
    remove_io(graph, input, output);
    Ok(states)
}

/// Removes an input and an output that are not used any more.
pub(crate) fn remove_io(graph: &mut Graph, input: &str, output: &str) {
    graph.inputs.retain(|info| info.name() != input);
    graph.outputs.retain(|info| info.name() != output);
    graph.remove_dead();
}

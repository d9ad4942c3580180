// SPDX-License-Identifier: MIT OR Apache-2.0

//! Finds the caches of each layer: how one input is taken apart into layers, and how one output is put together.
//!
//! NeMo's export stacks the caches of all layers. Inside, each step takes them apart (`Transpose`, `Gather`) and stacks
//! them again (`Unsqueeze`, `Concat`, `Transpose`): two copies of everything. Here each layer gets tensors of its own.

use crate::{
    ir::{
        constant::{attribute, attribute_list, axis_of},
        net::{DefUse, Net},
    },
    passes::StateSpec,
};

/// Where a layer meets its cache.
pub(crate) struct LayerCache {
    /// The tensor that holds the cache of this layer: \[1, …\].
    pub cached: String,
    /// The `Concat` of it with what is new.
    pub concat: usize,
    /// What is new.
    pub new: String,
    /// The tensor that becomes the cache of the next step.
    pub next: String,
}

/// The layers' parts of the caches `input` \[1, layers, …\] and `output`, joined with what is new along `axis`.
pub(crate) fn layer_caches(net: &Net, input: &str, output: &str, axis: usize) -> Result<Vec<LayerCache>, String> {
    let index = net.index();
    let count = net.shape(input).and_then(|dims| dims.get(1)).copied();
    let count = count.ok_or_else(|| format!("it has no input {input} of known shape"))?;
    let nexts = stacked(net, &index, output)
        .filter(|nexts| nexts.len() == count)
        .ok_or_else(|| format!("output {output} is not stacked from {count} layers"))?;
    let mut found: Vec<Option<LayerCache>> = (0..count).map(|_| None).collect();
    for (number, node) in net.nodes.iter().enumerate() {
        let [cached, new] = &node.input[..] else { continue };
        let Some(layer) = layer_of(net, &index, cached, input) else {
            continue;
        };
        if node.op_type() != "Concat" {
            continue;
        }
        let rank = net.shape(cached).map_or(0, <[usize]>::len);
        if attribute(node, "axis").and_then(|axis| axis_of(axis, rank)) != Some(axis) || net.shape(new).is_none() {
            continue;
        }
        // The cache is joined once to be used, and once (in attention) to be cut down to what is kept.
        let cache = LayerCache {
            cached: cached.clone(),
            concat: number,
            new: new.clone(),
            next: nexts[layer].clone(),
        };
        if found[layer].replace(cache).is_some() {
            return Err(format!("layer {layer} joins {input} with more than one tensor"));
        }
    }
    let missing = |(layer, cache): (usize, Option<LayerCache>)| {
        cache.ok_or_else(|| format!("layer {layer} does not join {input} with what is new"))
    };
    found.into_iter().enumerate().map(missing).collect()
}

/// The number of the layer whose part of `input` is `name`.
fn layer_of(net: &Net, index: &DefUse, name: &str, input: &str) -> Option<usize> {
    let gather = &net.nodes[index.producer(name)?];
    let number = net
        .value(gather.input.get(1)?)
        .filter(|value| value.dims.is_empty())?
        .int()?;
    if gather.op_type() != "Gather" {
        return None;
    }
    let stack = &gather.input[0];
    let rank = net.shape(input)?.len();
    let axis = axis_of(attribute(gather, "axis").unwrap_or(0), rank)?;
    let layers_at = match stack == input {
        true => 1,
        false => {
            let transpose = &net.nodes[index.producer(stack)?];
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
        .then(|| axis_of(number, net.shape(input)?[1]))
        .flatten()
}

/// Whether a transposition of `of` brings layers, the second axis, to the front, or back.
fn is_layers_first(of: &str, input: &str, operation: &str, perm: &[i64]) -> bool {
    operation == "Transpose" && of == input && perm == [1, 0, 2, 3]
}

/// The tensors that `output` is stacked from, layer by layer.
fn stacked(net: &Net, index: &DefUse, output: &str) -> Option<Vec<String>> {
    let last = &net.nodes[index.producer(output)?];
    let (concat, axis) = match last.op_type() {
        "Transpose" if attribute_list(last, "perm") == Some(&[1, 0, 2, 3]) => {
            (&net.nodes[index.producer(&last.input[0])?], 0)
        }
        _ => (last, 1),
    };
    if concat.op_type() != "Concat" || attribute(concat, "axis") != Some(axis) {
        return None;
    }
    let part = |name: &String| {
        let unsqueeze = &net.nodes[index.producer(name)?];
        let axes = net.value(unsqueeze.input.get(1)?)?.ints()?;
        (unsqueeze.op_type() == "Unsqueeze" && axes == [axis]).then(|| unsqueeze.input[0].clone())
    };
    concat.input.iter().map(part).collect()
}

/// Gives each layer its own part of a cache as input and output of the graph, in place of `input` and `output`, and
/// says what they are. What the layers compute stays as it is.
pub(crate) fn unstack_caches(net: &mut Net, input: &str, output: &str, axis: usize) -> Result<Vec<StateSpec>, String> {
    let caches = layer_caches(net, input, output, axis)?;
    let mut states = Vec::new();
    for (layer, cache) in caches.iter().enumerate() {
        let dims = net.shape(&cache.cached).map(<[usize]>::to_vec);
        let dims = dims.filter(|dims| net.shape(&cache.next) == Some(dims));
        let dims = dims.ok_or_else(|| format!("layer {layer} keeps something of another shape than {input}"))?;
        states.push(StateSpec {
            input: format!("{input}/{layer}"),
            output: cache.next.clone(),
            dims,
            new_rows: None,
            is_ring: false,
        });
    }
    for (state, cache) in states.iter().zip(&caches) {
        net.add_input(&state.input, &state.dims);
        net.rename_uses(&cache.cached, &state.input);
        net.add_output(&state.output, &state.dims);
    }
    remove_io(net, input, output);
    Ok(states)
}

/// Takes away an input and an output that nothing needs any more.
pub(crate) fn remove_io(net: &mut Net, input: &str, output: &str) {
    net.inputs.retain(|info| info.name() != input);
    net.outputs.retain(|info| info.name() != output);
    net.remove_dead();
}

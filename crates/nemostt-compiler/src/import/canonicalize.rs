// SPDX-License-Identifier: MIT OR Apache-2.0

//! The canonical layout of encoders, which is NeMo's:
//!
//! | tensor | type | shape |
//! |---|---|---|
//! | in `audio_signal` | f32 | \[1, mels, T\] |
//! | in `length` | i64 | \[1\], including cached mel frames |
//! | in `cache_last_channel` | f32 | \[1, layers, left, width\] |
//! | in `cache_last_time` | f32 | \[1, layers, width, kernel - 1\] |
//! | in `cache_last_channel_len` | i64 | \[1\] |
//! | in `prompt_index` | i64 | \[1\]; multilingual models only |
//! | out `outputs` or `logprobs` | f32 | \[1, width, T'\] or \[1, T', tokens + 1\] |
//! | out `encoded_lengths` | i64 | \[1\] |
//! | out `cache_last_channel_next`, `cache_last_time_next`, `cache_last_channel_next_len` | | as the inputs |
//!
//! Other layouts are converted: tensors are renamed; `Transpose` and `Cast` nodes are inserted if axes or types differ;
//! a pre-encode cache inside the graph is removed, because windows contain their cached mel frames.

use crate::streaming_geometry::PRE_ENCODE_CACHE;
use crate::{
    ElementType, Graph, GraphError, TensorInfo,
    import::layouts::{EncoderNames, Prompt, nemo},
    ir::boundary::{Side, cast_to, permutation},
};

/// Name of the language input of a multilingual encoder: int64, shape \[1\].
pub const PROMPT_INPUT: &str = "prompt_index";

/// Properties of an encoder beyond the canonical layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contract {
    /// The layout that it was exported in.
    pub layout: &'static str,
    /// Whether it has a CTC head.
    pub ctc: bool,
    /// Whether it has the input [`PROMPT_INPUT`], and the number of prompts, if known.
    pub prompt: Option<Option<usize>>,
    /// The number of mel frames, if the export fixed it.
    pub fixed_frames: Option<usize>,
    /// Whether it uses `length`. If not, it also has outputs for padding.
    pub masks_length: bool,
}

/// Converts an encoder with these names to the canonical layout.
pub(crate) fn canonicalize(
    graph: &mut Graph,
    layout: &'static str,
    names: &EncoderNames,
) -> Result<Contract, GraphError> {
    if let Some(extra) = unknown_input(graph, names) {
        return Err(extra);
    }
    let fixed_frames = remove_pre_encode_cache(graph, names)?;
    let prompt = prompt(graph, names)?;
    let masks_length = graph.find(Side::Input, names.length).is_some();
    if !masks_length {
        let info = info(names.length, ElementType::I64, vec![Some(1)]);
        graph.declare(Side::Input, &info);
    }

    let channel = expect_rank(graph, Side::Input, names.channel, 4)?;
    let layers_first = layers_first(&channel);
    let width = channel.dims[3];
    let cache_axes: &[usize] = if layers_first { &[1, 0, 2, 3] } else { &[] };
    let audio = expect_rank(graph, Side::Input, names.audio, 3)?;
    let audio_axes: &[usize] = if time_before_mels(&audio, names) {
        &[0, 2, 1]
    } else {
        &[]
    };

    let exported = names;
    let canonical = if names.ctc { &nemo::CTC } else { &nemo::ENCODER };
    use ElementType::{F32, I64};
    rename_and_convert(graph, Side::Input, exported.audio, canonical.audio, F32, audio_axes)?;
    rename_and_convert(graph, Side::Input, exported.length, canonical.length, I64, &[])?;
    rename_and_convert(graph, Side::Input, exported.channel, canonical.channel, F32, cache_axes)?;
    rename_and_convert(graph, Side::Input, exported.time, canonical.time, F32, cache_axes)?;
    rename_and_convert(
        graph,
        Side::Input,
        exported.channel_len,
        canonical.channel_len,
        I64,
        &[],
    )?;

    let output = expect_rank(graph, Side::Output, exported.output, 3)?;
    let frames_axes: &[usize] = if !names.ctc && time_before_width(&output, width, names) {
        &[0, 2, 1]
    } else {
        &[]
    };
    rename_and_convert(graph, Side::Output, exported.output, canonical.output, F32, frames_axes)?;
    rename_and_convert(
        graph,
        Side::Output,
        exported.output_lengths,
        canonical.output_lengths,
        I64,
        &[],
    )?;
    rename_and_convert(
        graph,
        Side::Output,
        exported.channel_next,
        canonical.channel_next,
        F32,
        cache_axes,
    )?;
    rename_and_convert(
        graph,
        Side::Output,
        exported.time_next,
        canonical.time_next,
        F32,
        cache_axes,
    )?;
    rename_and_convert(
        graph,
        Side::Output,
        exported.channel_len_next,
        canonical.channel_len_next,
        I64,
        &[],
    )?;

    let fixed_frames = match fixed_frames {
        Some(fixed) => fixed,
        None => expect_rank(graph, Side::Input, canonical.audio, 3)?.dims[2],
    };
    Ok(Contract {
        layout,
        ctc: names.ctc,
        prompt,
        fixed_frames,
        masks_length,
    })
}

/// Finds an input that no layout has: the graph needs something that a single stream of speech does not provide.
fn unknown_input(graph: &Graph, names: &EncoderNames) -> Option<GraphError> {
    let mut known = vec![names.audio, names.length, names.channel, names.time, names.channel_len];
    known.extend(names.pre_encode_cache.map(|(input, _)| input));
    known.extend(names.prompt.map(Prompt::name));
    let unknown = graph
        .inputs()
        .into_iter()
        .find(|input| !known.contains(&input.name.as_str()))?;
    // NeMo's multitalker models have the inputs `spk_targets` and `bg_spk_targets`.
    Some(if unknown.name.contains("spk") {
        GraphError::Multitalker { input: unknown.name }
    } else {
        GraphError::UnknownLayout {
            inputs: format!("an unknown input {}", unknown.name),
        }
    })
}

/// Renames the input or output `from` to `to`, and inserts nodes that convert from the canonical type and axes to those
/// of the graph (or back, for outputs). `axes` is the permutation between the two, which must be its own inverse.
pub(crate) fn rename_and_convert(
    graph: &mut Graph,
    side: Side,
    from: &str,
    to: &str,
    element: ElementType,
    axes: &[usize],
) -> Result<(), GraphError> {
    let Some(exported) = graph.find(side, from) else {
        return Err(GraphError::Missing {
            kind: side.name(),
            tensor: from.into(),
        });
    };
    use ElementType::{F16, F32, I32, I64};
    let both_in = |kinds: [ElementType; 2]| kinds.contains(&exported.element) && kinds.contains(&element);
    if !both_in([I32, I64]) && !both_in([F16, F32]) {
        return Err(GraphError::Tensor {
            tensor: format!("{} {from}", side.name()),
            found: exported.element,
            axes: exported.dims.len(),
            expected: element,
            expected_axes: exported.dims.len(),
        });
    }
    if !axes.is_empty() && exported.dims.len() != axes.len() {
        return Err(GraphError::Tensor {
            tensor: format!("{} {from}", side.name()),
            found: exported.element,
            axes: exported.dims.len(),
            expected: element,
            expected_axes: axes.len(),
        });
    }
    graph.rename(from, to);
    let mut chain = Vec::new();
    if exported.element != element {
        let inside = if side == Side::Input { exported.element } else { element };
        chain.push(("Cast", cast_to(inside)));
    }
    if !axes.is_empty() {
        chain.push(("Transpose", permutation(axes)));
        let dims = axes.iter().map(|&axis| exported.dims[axis]).collect();
        graph.redeclare(side, &info(to, element, dims));
    }
    graph.insert_chain(side, to, chain);
    graph.set_element(side, to, element);
    Ok(())
}

/// The input or output `name`, which must have `rank` axes.
pub(crate) fn expect_rank(graph: &Graph, side: Side, name: &str, rank: usize) -> Result<TensorInfo, GraphError> {
    let Some(info) = graph.find(side, name) else {
        return Err(GraphError::Missing {
            kind: side.name(),
            tensor: name.into(),
        });
    };
    if info.dims.len() == rank {
        return Ok(info);
    }
    Err(GraphError::Tensor {
        tensor: format!("{} {name}", side.name()),
        found: info.element,
        axes: info.dims.len(),
        expected: info.element,
        expected_axes: rank,
    })
}

/// The input or output `name`, which must accept a tensor of sizes `fed` (`None`: any). One of its axes is the batch.
///
/// Checked at import, since a pass may replace a declared size, while ONNX Runtime rejects a tensor of another size.
pub(crate) fn expect_sizes(
    graph: &Graph,
    side: Side,
    name: &str,
    fed: &[Option<usize>],
    batch_axis: usize,
) -> Result<TensorInfo, GraphError> {
    let found = expect_rank(graph, side, name, fed.len())?;
    let differs = |axis: usize| matches!((found.dims[axis], fed[axis]), (Some(size), Some(fed)) if size != fed);
    let Some(axis) = (0..fed.len()).find(|&axis| differs(axis)) else {
        return Ok(found);
    };
    Err(match found.dims[axis] {
        Some(batch) if axis == batch_axis => GraphError::FixedBatch {
            tensor: name.into(),
            batch,
        },
        _ => GraphError::Contradiction {
            what: format!(
                "its {name} is {}, but a stream needs {}",
                shape(&found.dims),
                shape(fed)
            ),
        },
    })
}

/// Formats a shape: \[1, 17, ?, 512\].
pub(crate) fn shape(dims: &[Option<usize>]) -> String {
    let size = |size: &Option<usize>| size.map_or("?".into(), |size| size.to_string());
    let sizes: Vec<String> = dims.iter().map(size).collect();
    format!("[{}]", sizes.join(", "))
}

fn info(name: &str, element: ElementType, dims: Vec<Option<usize>>) -> TensorInfo {
    TensorInfo {
        name: name.into(),
        element,
        dims,
    }
}

/// NeMo's caches are \[layers, batch, …\] in PyTorch and \[batch, layers, …\] in its exports; custom exports often have
/// the former. The number of layers is fixed; the batch size is 1 or dynamic.
fn layers_first(cache: &TensorInfo) -> bool {
    let single = |size: Option<usize>| size.is_none_or(|size| size == 1);
    !single(cache.dims[0]) && single(cache.dims[1])
}

fn time_before_mels(audio: &TensorInfo, names: &EncoderNames) -> bool {
    match (audio.dims[1], audio.dims[2]) {
        (None, Some(_)) => true,
        (Some(_), None) => false,
        _ => names.time_first,
    }
}

fn time_before_width(frames: &TensorInfo, width: Option<usize>, names: &EncoderNames) -> bool {
    let (first, second) = (frames.dims[1] == width, frames.dims[2] == width);
    match (width, first, second) {
        (Some(_), true, false) => false,
        (Some(_), false, true) => true,
        _ => names.time_first || names.pre_encode_cache.is_some(),
    }
}

/// Removes the pre-encode cache from a graph that has it inside: `audio_signal` is then the whole window. Returns the
/// fixed number of mel frames of that window (`Some(None)` if dynamic), or `None` if the graph has no such cache.
///
/// Such a graph starts with `Concat(cache, audio)` along time, and adds the cached frames to the length.
fn remove_pre_encode_cache(graph: &mut Graph, names: &EncoderNames) -> Result<Option<Option<usize>>, GraphError> {
    let Some((cache, cache_next)) = names.pre_encode_cache else {
        return Ok(None);
    };
    let cached = expect_rank(graph, Side::Input, cache, 3)?;
    let audio = expect_rank(graph, Side::Input, names.audio, 3)?;
    let cannot_infer = || GraphError::CannotInfer("the node that concatenates cached and new mel frames".into());
    let concat = {
        let readers = graph.index().readers(cache);
        let &[index] = &readers[..] else {
            return Err(cannot_infer());
        };
        let node = &graph.nodes[index];
        if node.op_type() != "Concat" || node.input != [cache, names.audio] {
            return Err(cannot_infer());
        }
        (index, node.output.first().cloned().unwrap_or_default())
    };
    let frames = cached.dims[2].unwrap_or(PRE_ENCODE_CACHE);
    if frames != PRE_ENCODE_CACHE {
        return Err(GraphError::Contradiction {
            what: format!(
                "its pre-encode cache has {frames} mel frames, but the encoder's subsampling needs {PRE_ENCODE_CACHE}"
            ),
        });
    }
    graph.remove_node(concat.0);
    graph.rename_uses_of(&concat.1, names.audio);
    graph.remove(Side::Input, cache);
    graph.remove(Side::Output, cache_next);
    let fixed = audio.dims[2].map(|new| new + frames);
    graph.redeclare(
        Side::Input,
        &TensorInfo {
            dims: vec![audio.dims[0], audio.dims[1], fixed],
            ..audio
        },
    );
    // The graph adds the cached frames to the number of new ones; the canonical length includes them.
    let length = expect_rank(graph, Side::Input, names.length, 1)?;
    let frames_name = graph.unique_name("cached_frames");
    graph.add_constant(&frames_name, length.element, &[frames as i64]);
    let inner = graph.unique_name("new_frames");
    graph.rename_uses_of(names.length, &inner);
    graph.prepend("Sub", &[names.length, &frames_name], &inner);
    Ok(Some(fixed))
}

/// Converts the language input to [`PROMPT_INPUT`]; returns the number of prompts if it is known.
fn prompt(graph: &mut Graph, names: &EncoderNames) -> Result<Option<Option<usize>>, GraphError> {
    let Some(prompt) = names
        .prompt
        .filter(|prompt| graph.find(Side::Input, prompt.name()).is_some())
    else {
        return Ok(None);
    };
    match prompt {
        Prompt::Index(name) => {
            rename_and_convert(graph, Side::Input, name, PROMPT_INPUT, ElementType::I64, &[])?;
            Ok(Some(None))
        }
        Prompt::OneHot(name) => {
            let mask = expect_rank(graph, Side::Input, name, 2)?;
            let Some(prompts) = mask.dims[1] else {
                return Err(GraphError::CannotInfer(format!(
                    "the number of languages in its input {name}"
                )));
            };
            graph.remove(Side::Input, name);
            graph.prepend_one_hot(PROMPT_INPUT, prompts, mask.element, name);
            graph.declare(Side::Input, &info(PROMPT_INPUT, ElementType::I64, vec![Some(1)]));
            Ok(Some(Some(prompts)))
        }
    }
}

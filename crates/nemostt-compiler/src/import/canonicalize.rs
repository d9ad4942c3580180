// SPDX-License-Identifier: MIT OR Apache-2.0

//! The one contract that the rest of the recogniser sees, whatever layout an encoder came in: NeMo's own.
//!
//! | tensor | type | shape |
//! |---|---|---|
//! | in `audio_signal` | f32 | \[1, mels, T\] |
//! | in `length` | i64 | \[1\], the carry counted in |
//! | in `cache_last_channel` | f32 | \[1, layers, left, width\] |
//! | in `cache_last_time` | f32 | \[1, layers, width, kernel - 1\] |
//! | in `cache_last_channel_len` | i64 | \[1\] |
//! | in `prompt_index` | i64 | \[1\]; multilingual models only |
//! | out `outputs` or `logprobs` | f32 | \[1, width, T'\] or \[1, T', labels + 1\] |
//! | out `encoded_lengths` | i64 | \[1\] |
//! | out `cache_last_channel_next`, `cache_last_time_next`, `cache_last_channel_next_len` | | as the inputs |
//!
//! A graph in another layout is rewritten: tensors are renamed; `Transpose` and `Cast` nodes are put where axes or types
//! differ; a carry that the graph keeps itself is taken out, for the windows bring theirs.

use crate::streaming_geometry::PRE_ENCODE_CACHE;
use crate::{
    ElementType, Graph, GraphError, TensorInfo,
    import::layouts::{EncoderNames, Prompt, nemo},
    ir::boundary::{Side, cast_to, consumers, permutation},
};

/// Name of the input that tells a multilingual encoder its language: int64, shape \[1\].
pub const PROMPT_INPUT: &str = "prompt_index";

/// What an encoder is like beyond the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contract {
    /// The layout it came in.
    pub layout: &'static str,
    /// Whether it ends in a CTC head.
    pub ctc: bool,
    /// Whether it takes [`PROMPT_INPUT`], and how many prompts it knows, if it says so.
    pub prompt: Option<Option<usize>>,
    /// The only number of mel frames it takes, where the export fixed that.
    pub fixed_frames: Option<usize>,
    /// Whether it looks at `length`. One that does not gives outputs for padding, too.
    pub masks_length: bool,
}

/// Rewrites an encoder in the layout of `names` to the contract.
pub(crate) fn canonicalize(
    graph: &mut Graph,
    layout: &'static str,
    names: &EncoderNames,
) -> Result<Contract, GraphError> {
    if let Some(extra) = unknown_input(graph, names) {
        return Err(extra);
    }
    let fixed_frames = strip_carry(graph, names)?;
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

    let theirs = names;
    let ours = if names.ctc { &nemo::CTC } else { &nemo::ENCODER };
    use ElementType::{F32, I64};
    rename_and_convert(graph, Side::Input, theirs.audio, ours.audio, F32, audio_axes)?;
    rename_and_convert(graph, Side::Input, theirs.length, ours.length, I64, &[])?;
    rename_and_convert(graph, Side::Input, theirs.channel, ours.channel, F32, cache_axes)?;
    rename_and_convert(graph, Side::Input, theirs.time, ours.time, F32, cache_axes)?;
    rename_and_convert(graph, Side::Input, theirs.channel_len, ours.channel_len, I64, &[])?;

    let output = expect_rank(graph, Side::Output, theirs.output, 3)?;
    let frames_axes: &[usize] = if !names.ctc && time_before_width(&output, width, names) {
        &[0, 2, 1]
    } else {
        &[]
    };
    rename_and_convert(graph, Side::Output, theirs.output, ours.output, F32, frames_axes)?;
    rename_and_convert(
        graph,
        Side::Output,
        theirs.output_lengths,
        ours.output_lengths,
        I64,
        &[],
    )?;
    rename_and_convert(
        graph,
        Side::Output,
        theirs.channel_next,
        ours.channel_next,
        F32,
        cache_axes,
    )?;
    rename_and_convert(graph, Side::Output, theirs.time_next, ours.time_next, F32, cache_axes)?;
    rename_and_convert(
        graph,
        Side::Output,
        theirs.channel_len_next,
        ours.channel_len_next,
        I64,
        &[],
    )?;

    let fixed_frames = match fixed_frames {
        Some(fixed) => fixed,
        None => expect_rank(graph, Side::Input, ours.audio, 3)?.dims[2],
    };
    Ok(Contract {
        layout,
        ctc: names.ctc,
        prompt,
        fixed_frames,
        masks_length,
    })
}

/// An input that no layout has: the graph wants something that a single stream of speech does not give.
fn unknown_input(graph: &Graph, names: &EncoderNames) -> Option<GraphError> {
    let mut expect_rank = vec![names.audio, names.length, names.channel, names.time, names.channel_len];
    expect_rank.extend(names.carry.map(|(input, _)| input));
    expect_rank.extend(names.prompt.map(Prompt::name));
    let foreign = graph
        .inputs()
        .into_iter()
        .find(|input| !expect_rank.contains(&input.name.as_str()))?;
    // NeMo's multitalker models are told who speaks by `spk_targets` and `bg_spk_targets`.
    Some(if foreign.name.contains("spk") {
        GraphError::Multitalker { input: foreign.name }
    } else {
        GraphError::UnknownLayout {
            inputs: format!("an input {} that is not known", foreign.name),
        }
    })
}

/// Renames the input or output `from` to `to` and puts nodes behind it that bring it from the contract's type and axes
/// to the graph's own (or back, for outputs). `axes` is the permutation between the two, which is its own inverse.
pub(crate) fn rename_and_convert(
    graph: &mut Graph,
    side: Side,
    from: &str,
    to: &str,
    element: ElementType,
    axes: &[usize],
) -> Result<(), GraphError> {
    let Some(theirs) = graph.find(side, from) else {
        return Err(GraphError::Missing {
            kind: side.name(),
            tensor: from.into(),
        });
    };
    use ElementType::{F16, F32, I32, I64};
    let alike = |kinds: [ElementType; 2]| kinds.contains(&theirs.element) && kinds.contains(&element);
    if !alike([I32, I64]) && !alike([F16, F32]) {
        return Err(GraphError::Tensor {
            tensor: format!("{} {from}", side.name()),
            found: theirs.element,
            axes: theirs.dims.len(),
            expected: element,
            expected_axes: theirs.dims.len(),
        });
    }
    if !axes.is_empty() && theirs.dims.len() != axes.len() {
        return Err(GraphError::Tensor {
            tensor: format!("{} {from}", side.name()),
            found: theirs.element,
            axes: theirs.dims.len(),
            expected: element,
            expected_axes: axes.len(),
        });
    }
    graph.rename(from, to);
    let mut chain = Vec::new();
    if theirs.element != element {
        let inside = if side == Side::Input { theirs.element } else { element };
        chain.push(("Cast", cast_to(inside)));
    }
    if !axes.is_empty() {
        chain.push(("Transpose", permutation(axes)));
        let dims = axes.iter().map(|&axis| theirs.dims[axis]).collect();
        graph.redeclare(side, &info(to, element, dims));
    }
    graph.insert_chain(side, to, chain);
    graph.set_element(side, to, element);
    Ok(())
}

/// The input or output `name` if it has `rank` axes.
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

fn info(name: &str, element: ElementType, dims: Vec<Option<usize>>) -> TensorInfo {
    TensorInfo {
        name: name.into(),
        element,
        dims,
    }
}

/// NeMo keeps its caches \[layers, batch, …\] inside and exports them \[batch, layers, …\]; who traces the encoder by hand
/// gets the first. Layers have a fixed number; the batch is 1 or free.
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
        _ => names.time_first || names.carry.is_some(),
    }
}

/// Takes the carry out of a graph that keeps it: the audio then is the whole window. Gives the fixed number of mel frames
/// of that window (`Some(None)`: any), or `None` if the graph never kept a carry.
///
/// Such a graph begins with `Concat(carry, audio)` along time, and adds the carry to the length.
fn strip_carry(graph: &mut Graph, names: &EncoderNames) -> Result<Option<Option<usize>>, GraphError> {
    let Some((carry, carry_next)) = names.carry else {
        return Ok(None);
    };
    let carried = expect_rank(graph, Side::Input, carry, 3)?;
    let audio = expect_rank(graph, Side::Input, names.audio, 3)?;
    let untold =
        || GraphError::CannotInfer("the place where it puts the carried mel frames before the new ones".into());
    let joined = {
        let consumers = consumers(graph);
        let of_carry = consumers.get(carry).map(Vec::as_slice).unwrap_or_default();
        let &[index] = of_carry else {
            return Err(untold());
        };
        let node = &graph.nodes()[index];
        if node.op_type() != "Concat" || node.input != [carry, names.audio] {
            return Err(untold());
        }
        (index, node.output.first().cloned().unwrap_or_default())
    };
    let frames = carried.dims[2].unwrap_or(PRE_ENCODE_CACHE);
    if frames != PRE_ENCODE_CACHE {
        return Err(GraphError::Contradiction {
            what: format!("its carry holds {frames} mel frames, the encoder's subsampling needs {PRE_ENCODE_CACHE}"),
        });
    }
    graph.remove_node(joined.0);
    graph.rename_uses_of(&joined.1, names.audio);
    graph.remove(Side::Input, carry);
    graph.remove(Side::Output, carry_next);
    let fixed = audio.dims[2].map(|new| new + frames);
    graph.redeclare(
        Side::Input,
        &TensorInfo {
            dims: vec![audio.dims[0], audio.dims[1], fixed],
            ..audio
        },
    );
    // It adds the carry to the number of new frames; ours holds both.
    let length = expect_rank(graph, Side::Input, names.length, 1)?;
    let frames_name = graph.unique_name("carried_frames");
    graph.add_constant(&frames_name, length.element, &[frames as i64]);
    let inner = graph.unique_name("new_frames");
    graph.rename_uses_of(names.length, &inner);
    graph.prepend("Sub", &[names.length, &frames_name], &inner);
    Ok(Some(fixed))
}

/// Makes what sets the language [`PROMPT_INPUT`]; gives the number of prompts where the graph says it.
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

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Simplifies masks where this is proven not to change results.
//!
//! * Attention replaces the scores of masked keys with -10000, and their weights after the softmax with 0. Adding -1e30
//!   to the scores replaces the former, once for all layers; the latter then has no effect in rows that have at least
//!   one unmasked key.
//! * The convolution module zeroes frames after the end of the audio. Frames before the end do not depend on them,
//!   because the convolution is causal, and frames after the end of the last window are not used.
//!
//! Both require that each audio frame has an unmasked key and is not masked itself. This is verified for every number
//! of frames that a window can have, with an empty and with a full cache.

use std::collections::HashMap;

use crate::{
    DROP_INPUT, Graph, NodeProto,
    streaming_geometry::{encoder_frames, full_width},
};
use crate::{
    ir::{
        const_eval::evaluate,
        constant::{Constant, attribute, axis_of},
        def_use::DefUse,
    },
    passes::StreamingConfig,
};

/// Simplifies masks; returns the numbers of attention and convolution masks.
pub(crate) fn simplify_masks(graph: &mut Graph, streaming: &StreamingConfig, lookahead: usize) -> (usize, usize) {
    let index = graph.index();
    let cases = cases(streaming, lookahead);
    let attentions: Vec<Attention> = graph.find_all(&index, attention);
    let convolutions: Vec<Convolution> = graph.find_all(&index, convolution);

    let mut proven: HashMap<String, bool> = HashMap::new();
    let mut holds = |graph: &Graph, mask: &str, check: fn(&Constant, usize) -> bool| {
        *proven.entry(mask.to_owned()).or_insert_with(|| {
            let holds = |case: &StepCase| {
                let mask = Values::of(graph, &index, case).find(mask, MAX_MASK_DEPTH);
                mask.is_some_and(|mask| check(&mask, case.frames))
            };
            cases.iter().all(holds)
        })
    };
    let mut additive_masks: HashMap<String, String> = HashMap::new();
    let mut counts = (0, 0);
    for found in attentions {
        if !holds(graph, &found.mask, every_frame_has_a_key) {
            continue;
        }
        let sum = match additive_masks.get(&found.mask) {
            Some(sum) => sum.clone(),
            None => {
                let [masked, free] = [-1e30, 0.0].map(|v| graph.add_value(&Constant::from_floats(vec![], &[v])));
                let sum = graph.add("Where", &[&found.condition, &masked, &free], &[]);
                additive_masks.insert(found.mask, sum.clone());
                sum
            }
        };
        let scores = graph.nodes[found.before].input[2].clone();
        let masked = graph.add("Add", &[&scores, &sum], &[]);
        graph.nodes[found.softmax].input[0] = masked;
        let (weights, unmasked) = (
            &graph.nodes[found.after].output[0],
            &graph.nodes[found.softmax].output[0],
        );
        let (weights, unmasked) = (weights.clone(), unmasked.clone());
        graph.rename_uses(&weights, &unmasked);
        counts.0 += 1;
    }
    for found in convolutions {
        if holds(graph, &found.mask, no_frame_is_masked) {
            let (masked, free) = (
                &graph.nodes[found.masking].output[0],
                &graph.nodes[found.masking].input[2],
            );
            let (masked, free) = (masked.clone(), free.clone());
            graph.rename_uses(&masked, &free);
            counts.1 += 1;
        }
    }
    graph.remove_dead();
    counts
}

/// Input values that a step can have.
struct StepCase {
    inputs: [(&'static str, Constant); 3],
    /// Encoder frames that are not padding.
    frames: usize,
}

fn cases(streaming: &StreamingConfig, lookahead: usize) -> Vec<StepCase> {
    let mut cases = Vec::new();
    for drop in 0..=streaming.drop_extra_pre_encoded {
        let mut seen = 0;
        for length in 1..=full_width(lookahead) {
            let Some(frames) = encoder_frames(length).checked_sub(drop) else {
                continue;
            };
            if frames == seen || frames > lookahead + 1 {
                continue;
            }
            seen = frames;
            for cached in [0, streaming.left_context] {
                let number = |name, value: usize| (name, Constant::of_ints(vec![1], &[value as i64]));
                let inputs = [
                    number("length", length),
                    number(DROP_INPUT, drop),
                    number("cache_last_channel_len", cached),
                ];
                cases.push(StepCase { inputs, frames });
            }
        }
    }
    cases
}

/// Maximum depth of the graph between an input and a mask: about 20 in NeMo's exports.
const MAX_MASK_DEPTH: usize = 100;

/// Maximum bytes of all values that a mask depends on: 200 kB with a left context of 70 and chunks of 14.
const MAX_MASK_BYTES: usize = 16 << 20;

/// Evaluates tensors for one case.
struct Values<'a> {
    graph: &'a Graph,
    index: &'a DefUse,
    case: &'a StepCase,
    /// Memoized values: without this, each node with two consumers would double the work.
    memo: HashMap<&'a str, Option<Constant>>,
    /// Remaining bytes.
    remaining_bytes: usize,
}

impl<'a> Values<'a> {
    fn of(graph: &'a Graph, index: &'a DefUse, case: &'a StepCase) -> Self {
        Self {
            graph,
            index,
            case,
            memo: HashMap::new(),
            remaining_bytes: MAX_MASK_BYTES,
        }
    }

    /// The value of `name`, if it depends only on the inputs of the case and on at most `depth` nodes in sequence.
    fn find(&mut self, name: &'a str, depth: usize) -> Option<Constant> {
        if let Some((_, value)) = self.case.inputs.iter().find(|(input, _)| *input == name) {
            return Some(value.clone());
        }
        if self.graph.is_constant(name) {
            return self.graph.value(name);
        }
        if let Some(value) = self.memo.get(name) {
            return value.clone();
        }
        let value = self.evaluate_node(name, depth);
        self.memo.insert(name, value.clone());
        value
    }

    fn evaluate_node(&mut self, name: &'a str, depth: usize) -> Option<Constant> {
        let node = &self.graph.nodes[self.index.producer(name)?];
        let input = |name: &'a String| match name.as_str() {
            "" => Some(None),
            name => self.find(name, depth.checked_sub(1)?).map(Some),
        };
        let inputs: Vec<Option<Constant>> = node.input.iter().map(input).collect::<Option<_>>()?;
        let value = evaluate(node, &inputs.iter().map(Option::as_ref).collect::<Vec<_>>())?;
        self.remaining_bytes = self.remaining_bytes.checked_sub(value.raw.len())?;
        Some(value)
    }
}

/// `mask` is \[…, frames, keys\], true for masked keys.
fn every_frame_has_a_key(mask: &Constant, frames: usize) -> bool {
    let (Some(bits), Some(&keys)) = (mask.ints(), mask.dims.last()) else {
        return false;
    };
    bits.chunks(keys.max(1)).take(frames).all(|row| row.contains(&0))
}

/// `mask` is \[…, frames\], true for masked frames.
fn no_frame_is_masked(mask: &Constant, frames: usize) -> bool {
    mask.ints()
        .is_some_and(|bits| bits.iter().take(frames).all(|&bit| bit == 0))
}

struct Attention {
    /// The `Where` nodes before and after the softmax.
    before: usize,
    softmax: usize,
    after: usize,
    condition: String,
    /// The tensor that `condition` is a cast of, if it is one; shared by all layers.
    mask: String,
}

fn attention(graph: &Graph, index: &DefUse, softmax: usize) -> Option<Attention> {
    let node = &graph.nodes[softmax];
    let &[1, _, frames, keys] = graph.shape(node.input.first()?)? else {
        return None;
    };
    let last = axis_of(attribute(node, "axis").unwrap_or(-1), 4) == Some(3);
    let before = index.producer(&node.input[0])?;
    let after = index.single_consumer(&node.output[0])?;
    let [hide, clear] = [before, after].map(|number| &graph.nodes[number]);
    let masks_scores =
        constant_of(graph, hide, 1)? <= -1000.0 && index.single_consumer(&node.input[0]) == Some(softmax);
    let clears_weights = constant_of(graph, clear, 1)? == 0.0 && clear.input[2] == node.output[0];
    let mask = original(graph, index, &hide.input[0]);
    let [.., mask_frames, mask_keys] = graph.shape(mask)? else {
        return None;
    };
    let same_mask = mask == original(graph, index, &clear.input[0]) && (*mask_frames, *mask_keys) == (frames, keys);
    let shared_by_heads = graph.shape(&hide.input[0])?.iter().product::<usize>() == frames * keys;
    let matches = node.op_type() == "Softmax" && last && masks_scores && clears_weights && same_mask && shared_by_heads;
    matches.then(|| Attention {
        before,
        softmax,
        after,
        condition: hide.input[0].clone(),
        mask: mask.to_owned(),
    })
}

struct Convolution {
    /// The `Where`.
    masking: usize,
    mask: String,
}

fn convolution(graph: &Graph, index: &DefUse, number: usize) -> Option<Convolution> {
    let node = &graph.nodes[number];
    let (&[1, _, joined], &[_, _, kernel]) = (graph.shape(node.input.first()?)?, graph.shape(node.input.get(1)?)?)
    else {
        return None;
    };
    let concat = &graph.nodes[index.producer(&node.input[0])?];
    let [cached, new] = &concat.input[..] else { return None };
    let masking = index.producer(new)?;
    let hide = &graph.nodes[masking];
    let (&[1, _, frames], &[1, _, cached_frames]) = (graph.shape(new)?, graph.shape(cached)?) else {
        return None;
    };
    // Causal if there are as many outputs as new frames, and output t depends on the cache and on new frames up to t.
    let is_list = |name: &str, value: i64| {
        let list = crate::ir::constant::attribute_list(node, name);
        list.is_none_or(|list| list.iter().all(|&v| v == value))
    };
    let causal = cached_frames + 1 == kernel
        && joined == frames + kernel - 1
        && is_list("pads", 0)
        && is_list("strides", 1)
        && is_list("dilations", 1);
    let clears_frames = constant_of(graph, hide, 1)? == 0.0 && index.single_consumer(new).is_some();
    let mask = original(graph, index, &hide.input[0]);
    let shared_by_channels =
        graph.shape(mask)?.iter().product::<usize>() == frames && graph.shape(mask)?.last() == Some(&frames);
    let matches =
        node.op_type() == "Conv" && concat.op_type() == "Concat" && causal && clears_frames && shared_by_channels;
    matches.then(|| Convolution {
        masking,
        mask: mask.to_owned(),
    })
}

/// The constant at input `input` of a `Where` node.
fn constant_of(graph: &Graph, node: &NodeProto, input: usize) -> Option<f32> {
    let value = graph.value(node.input.get(input)?)?.floats()?;
    (node.op_type() == "Where" && value.len() == 1).then(|| value[0])
}

/// Skips casts: masks are cast from bool to bool.
fn original<'a>(graph: &'a Graph, index: &DefUse, mut name: &'a str) -> &'a str {
    while let Some(node) = index.producer(name).map(|producer| &graph.nodes[producer])
        && node.op_type() == "Cast"
    {
        name = &node.input[0];
    }
    name
}

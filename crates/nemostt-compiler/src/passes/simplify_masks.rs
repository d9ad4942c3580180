// SPDX-License-Identifier: MIT OR Apache-2.0

//! Masks that do less, where it is proven that less will do.
//!
//! * Attention replaces the scores of masked keys by -10000, and after the softmax their weights by 0. A sum with -1e30
//!   does the first, once for all layers; the second does nothing then, in every row that has a key left.
//! * The convolution module sets frames behind the end of the audio to zero. A causal convolution never looks at them
//!   from a frame before the end, and what is behind the end of the last window is not used.
//!
//! Both hold if each frame of audio has a key, and is not masked itself. That is computed here for every number of frames
//! that a window can have, with an empty and with a full cache.

use std::collections::HashMap;

use crate::{
    DROP_INPUT, NodeProto,
    streaming_geometry::{encoder_frames, full_width},
};
use crate::{
    ir::{
        const_eval::evaluate,
        constant::{Constant, attribute, axis_of},
        net::{DefUse, Net},
    },
    passes::StreamingConfig,
};

/// Rewrites the masks, and returns for how many attentions and for how many convolutions.
pub(crate) fn simplify(net: &mut Net, streaming: &StreamingConfig, lookahead: usize) -> (usize, usize) {
    let index = net.index();
    let cases = cases(streaming, lookahead);
    let attentions: Vec<Attention> = net.find_all(&index, attention);
    let convolutions: Vec<Convolution> = net.find_all(&index, convolution);

    let mut proven: HashMap<String, bool> = HashMap::new();
    let mut holds = |net: &Net, mask: &str, check: fn(&Constant, usize) -> bool| {
        *proven.entry(mask.to_owned()).or_insert_with(|| {
            let holds = |case: &StepCase| {
                let mask = Values::of(net, &index, case).find(mask, MAX_MASK_DEPTH);
                mask.is_some_and(|mask| check(&mask, case.frames))
            };
            cases.iter().all(holds)
        })
    };
    let mut sums: HashMap<String, String> = HashMap::new();
    let mut done = (0, 0);
    for found in attentions {
        if !holds(net, &found.mask, every_frame_has_a_key) {
            continue;
        }
        let sum = match sums.get(&found.mask) {
            Some(sum) => sum.clone(),
            None => {
                let [masked, free] = [-1e30, 0.0].map(|v| net.add_value(&Constant::from_floats(vec![], &[v])));
                let sum = net.add("Where", &[&found.condition, &masked, &free], &[]);
                sums.insert(found.mask, sum.clone());
                sum
            }
        };
        let scores = net.nodes[found.before].input[2].clone();
        let masked = net.add("Add", &[&scores, &sum], &[]);
        net.nodes[found.softmax].input[0] = masked;
        let (weights, unmasked) = (&net.nodes[found.after].output[0], &net.nodes[found.softmax].output[0]);
        let (weights, unmasked) = (weights.clone(), unmasked.clone());
        net.rename_uses(&weights, &unmasked);
        done.0 += 1;
    }
    for found in convolutions {
        if holds(net, &found.mask, no_frame_is_masked) {
            let (masked, free) = (&net.nodes[found.masking].output[0], &net.nodes[found.masking].input[2]);
            let (masked, free) = (masked.clone(), free.clone());
            net.rename_uses(&masked, &free);
            done.1 += 1;
        }
    }
    net.remove_dead();
    done
}

/// What a step can be given.
struct StepCase {
    inputs: [(&'static str, Constant); 3],
    /// Encoder frames that are audio.
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

/// Operations between an input and a mask, at most: NeMo's exports have about 20.
const MAX_MASK_DEPTH: usize = 100;

/// Most bytes of all values that lead to a mask: with a left context of 70 and chunks of 14 they have 200 kB.
const MOST: usize = 16 << 20;

/// The values of tensors in a case.
struct Values<'a> {
    net: &'a Net,
    index: &'a DefUse,
    case: &'a StepCase,
    /// Those that were found before: a tensor that has two users may be asked for twice as often as either of them.
    known: HashMap<&'a str, Option<Constant>>,
    /// What those may have yet.
    room: usize,
}

impl<'a> Values<'a> {
    fn of(net: &'a Net, index: &'a DefUse, case: &'a StepCase) -> Self {
        Self {
            net,
            index,
            case,
            known: HashMap::new(),
            room: MOST,
        }
    }

    /// The value of `name`, if it depends on nothing else and on no more than `depth` nodes in a row.
    fn find(&mut self, name: &'a str, depth: usize) -> Option<Constant> {
        if let Some((_, value)) = self.case.inputs.iter().find(|(input, _)| *input == name) {
            return Some(value.clone());
        }
        if self.net.is_constant(name) {
            return self.net.value(name);
        }
        if let Some(value) = self.known.get(name) {
            return value.clone();
        }
        let value = self.make(name, depth);
        self.known.insert(name, value.clone());
        value
    }

    fn make(&mut self, name: &'a str, depth: usize) -> Option<Constant> {
        let node = &self.net.nodes[self.index.producer(name)?];
        let input = |name: &'a String| match name.as_str() {
            "" => Some(None),
            name => self.find(name, depth.checked_sub(1)?).map(Some),
        };
        let inputs: Vec<Option<Constant>> = node.input.iter().map(input).collect::<Option<_>>()?;
        let value = evaluate(node, &inputs.iter().map(Option::as_ref).collect::<Vec<_>>())?;
        self.room = self.room.checked_sub(value.raw.len())?;
        Some(value)
    }
}

/// `mask` is \[…, frames, keys\], true where a key is hidden.
fn every_frame_has_a_key(mask: &Constant, frames: usize) -> bool {
    let (Some(bits), Some(&keys)) = (mask.ints(), mask.dims.last()) else {
        return false;
    };
    bits.chunks(keys.max(1)).take(frames).all(|row| row.contains(&0))
}

/// `mask` is \[…, frames\], true where a frame is hidden.
fn no_frame_is_masked(mask: &Constant, frames: usize) -> bool {
    mask.ints()
        .is_some_and(|bits| bits.iter().take(frames).all(|&bit| bit == 0))
}

struct Attention {
    /// The `Where` before the softmax, and the one after it.
    before: usize,
    softmax: usize,
    after: usize,
    condition: String,
    /// What `condition` is a copy of, perhaps: the same for all layers.
    mask: String,
}

fn attention(net: &Net, index: &DefUse, softmax: usize) -> Option<Attention> {
    let node = &net.nodes[softmax];
    let &[1, _, frames, keys] = net.shape(node.input.first()?)? else {
        return None;
    };
    let last = axis_of(attribute(node, "axis").unwrap_or(-1), 4) == Some(3);
    let before = index.producer(&node.input[0])?;
    let after = index.single_consumer(&node.output[0])?;
    let [hide, clear] = [before, after].map(|number| &net.nodes[number]);
    let hides = constant_of(net, hide, 1)? <= -1000.0 && index.single_consumer(&node.input[0]) == Some(softmax);
    let clears = constant_of(net, clear, 1)? == 0.0 && clear.input[2] == node.output[0];
    let mask = original(net, index, &hide.input[0]);
    let [.., mask_frames, mask_keys] = net.shape(mask)? else {
        return None;
    };
    let alike = mask == original(net, index, &clear.input[0]) && (*mask_frames, *mask_keys) == (frames, keys);
    let one_for_all_heads = net.shape(&hide.input[0])?.iter().product::<usize>() == frames * keys;
    let right = node.op_type() == "Softmax" && last && hides && clears && alike && one_for_all_heads;
    right.then(|| Attention {
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

fn convolution(net: &Net, index: &DefUse, number: usize) -> Option<Convolution> {
    let node = &net.nodes[number];
    let (&[1, _, joined], &[_, _, kernel]) = (net.shape(node.input.first()?)?, net.shape(node.input.get(1)?)?) else {
        return None;
    };
    let concat = &net.nodes[index.producer(&node.input[0])?];
    let [cached, new] = &concat.input[..] else { return None };
    let masking = index.producer(new)?;
    let hide = &net.nodes[masking];
    let (&[1, _, frames], &[1, _, cached_frames]) = (net.shape(new)?, net.shape(cached)?) else {
        return None;
    };
    // As many outputs as new frames: output t sees the cache and the new frames up to t.
    let is_list = |name: &str, value: i64| {
        let list = crate::ir::constant::attribute_list(node, name);
        list.is_none_or(|list| list.iter().all(|&v| v == value))
    };
    let causal = cached_frames + 1 == kernel
        && joined == frames + kernel - 1
        && is_list("pads", 0)
        && is_list("strides", 1)
        && is_list("dilations", 1);
    let clears = constant_of(net, hide, 1)? == 0.0 && index.single_consumer(new).is_some();
    let mask = original(net, index, &hide.input[0]);
    let one_for_all = net.shape(mask)?.iter().product::<usize>() == frames && net.shape(mask)?.last() == Some(&frames);
    let right = node.op_type() == "Conv" && concat.op_type() == "Concat" && causal && clears && one_for_all;
    right.then(|| Convolution {
        masking,
        mask: mask.to_owned(),
    })
}

/// The constant that `Where` node `node` takes as input `input`.
fn constant_of(net: &Net, node: &NodeProto, input: usize) -> Option<f32> {
    let value = net.value(node.input.get(input)?)?.floats()?;
    (node.op_type() == "Where" && value.len() == 1).then(|| value[0])
}

/// `name`, or what it is a cast of: masks are cast from bool to bool.
fn original<'a>(net: &'a Net, index: &DefUse, mut name: &'a str) -> &'a str {
    while let Some(node) = index.producer(name).map(|producer| &net.nodes[producer])
        && node.op_type() == "Cast"
    {
        name = &node.input[0];
    }
    name
}

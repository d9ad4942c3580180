// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reads the streaming parameters out of a cache-aware encoder graph.
//!
//! NeMo's export leaves the sizes of the caches open and bakes them into constants instead, so they are read where the
//! graph uses them: the `Clip` that limits the cache's length, the `Clip` that limits the number of outputs, the kernel
//! of the depthwise convolutions, the `Slice` and `Sub` that drop the outputs of the carry.

use super::{ElementType, Graph, NodeProto, TensorInfo};

/// Dimensions and limits of a cache-aware encoder (or encoder with CTC head).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streaming {
    /// Mel bands.
    pub mels: usize,
    /// Encoder layers.
    pub layers: usize,
    /// Width of the encoder.
    pub width: usize,
    /// Encoder frames of left context that attention sees: the length of `cache_last_channel`.
    pub left: usize,
    /// Frames that the causal convolutions remember: their kernel less one.
    pub conv_left: usize,
    /// Encoder frames a window gives at most: the export's lookahead plus one.
    pub chunk: usize,
    /// Encoder frames dropped at the start of every window.
    pub drop: usize,
}

impl Streaming {
    /// Reads them from `graph`.
    ///
    /// # Errors
    /// A sentence that says what the graph lacks.
    pub fn read(graph: &Graph) -> Result<Self, String> {
        let audio = expect(graph.input("audio_signal"), "input audio_signal", ElementType::F32, 3)?;
        expect(graph.input("length"), "input length", ElementType::I64, 1)?;
        let channel = expect(
            graph.input("cache_last_channel"),
            "input cache_last_channel",
            ElementType::F32,
            4,
        )?;
        let time = expect(
            graph.input("cache_last_time"),
            "input cache_last_time",
            ElementType::F32,
            4,
        )?;
        expect(
            graph.input("cache_last_channel_len"),
            "input cache_last_channel_len",
            ElementType::I64,
            1,
        )?;
        for (name, rank) in [
            ("encoded_lengths", 1),
            ("cache_last_channel_next", 4),
            ("cache_last_time_next", 4),
            ("cache_last_channel_next_len", 1),
        ] {
            let element = if rank == 1 { ElementType::I64 } else { ElementType::F32 };
            expect(graph.output(name), &format!("output {name}"), element, rank)?;
        }
        for info in [&audio, &channel, &time] {
            if let Some(batch) = info.dims[0].filter(|&batch| batch != 1) {
                return Err(format!(
                    "its batch size is fixed to {batch}; one stream needs 1 or a free axis"
                ));
            }
        }

        let size = |info: &TensorInfo, axis: usize, what: &str| {
            info.dims[axis].ok_or_else(|| format!("{} leaves its axis {axis} ({what}) open", info.name))
        };
        let layers = size(&channel, 1, "layers")?;
        let width = size(&channel, 3, "width")?;
        if time.dims[1] != Some(layers) || time.dims[2] != Some(width) {
            return Err(format!(
                "cache_last_time is {:?}, which does not fit cache_last_channel {:?}",
                time.dims, channel.dims
            ));
        }
        let found = Self {
            mels: size(&audio, 1, "mel bands")?,
            layers,
            width,
            left: match channel.dims[2] {
                Some(left) => left,
                None => upper_limit(graph, "cache_last_channel_next_len")?,
            },
            conv_left: match time.dims[3] {
                Some(frames) => frames,
                None => depthwise_kernel(graph, width)? - 1,
            },
            chunk: upper_limit(graph, "encoded_lengths")?,
            drop: carry_drop(graph)?.amount,
        };
        if found.chunk == 0 || !found.left.is_multiple_of(found.chunk) {
            return Err(format!(
                "its left context of {} frames is no multiple of its chunk of {}: NeMo's mask then splits the chunk and \
                 halves the lookahead. Export it with set_default_att_context_size([left, R]) where left % (R + 1) == 0",
                found.left, found.chunk
            ));
        }
        Ok(found)
    }

    /// Lookaheads, in encoder frames, that this graph serves: those whose chunk lies within one chunk of its mask.
    pub fn lookaheads(&self) -> Vec<usize> {
        let fits = |lookahead: &usize| self.left.is_multiple_of(lookahead + 1);
        (0..self.chunk).filter(fits).collect()
    }
}

fn expect(info: Option<TensorInfo>, what: &str, element: ElementType, rank: usize) -> Result<TensorInfo, String> {
    match info {
        None => Err(format!("it has no {what}")),
        Some(info) if info.element == element && info.dims.len() == rank => Ok(info),
        Some(info) => Err(format!(
            "its {what} is {:?} with {} axes; expected {element:?} with {rank}",
            info.element,
            info.dims.len()
        )),
    }
}

/// The upper limit of the `Clip` that makes output `name`.
fn upper_limit(graph: &Graph, name: &str) -> Result<usize, String> {
    let limit = || {
        let clip = *graph.producers().get(name)?;
        let limit = (clip.op_type() == "Clip").then(|| clip.input.get(2)).flatten()?;
        single(graph.constants().get(limit.as_str())?)
    };
    let limit = limit().and_then(|limit| usize::try_from(limit).ok());
    limit.ok_or_else(|| format!("its output {name} is not limited by a constant, as NeMo's exports are"))
}

/// Kernel size of the depthwise convolutions over time (`groups` = encoder width, one axis).
fn depthwise_kernel(graph: &Graph, width: usize) -> Result<usize, String> {
    let attribute = |node: &NodeProto, name: &str| {
        let found = node.attribute.iter().find(|a| a.name() == name);
        found.map(|a| (a.i(), a.ints.clone()))
    };
    let kernel = |node: &NodeProto| {
        let (groups, _) = attribute(node, "group")?;
        let (_, kernel) = attribute(node, "kernel_shape")?;
        let depthwise = node.op_type() == "Conv" && groups == width as i64;
        (depthwise && kernel.len() == 1).then(|| kernel[0])
    };
    let mut kernels: Vec<i64> = graph.nodes().iter().filter_map(kernel).collect();
    kernels.dedup();
    match kernels[..] {
        [kernel] if (2..=1024).contains(&kernel) => Ok(kernel as usize),
        _ => Err(format!(
            "the kernel of its causal convolutions cannot be told (found {kernels:?})"
        )),
    }
}

/// Where the outputs of the carry are dropped.
pub(super) struct CarryDrop {
    /// How many they are.
    pub amount: usize,
    /// Index of the `Slice` that cuts them from the pre-encoder's output.
    pub slice: usize,
    /// Index of the `Sub` that takes them from the length.
    pub sub: usize,
}

/// Finds NeMo's `(length - drop_extra_pre_encoded).clamp(min=0)` and `audio_signal[:, drop_extra_pre_encoded:, :]`
/// (`ConformerEncoder.forward_internal`): the only `Sub` of a constant under a `Clip` from 0, and the only `Slice` from
/// the same constant to the end of axis 1.
pub(super) fn carry_drop(graph: &Graph) -> Result<CarryDrop, String> {
    let constants = graph.constants();
    let constant = |node: &NodeProto, input: usize| {
        let name = node.input.get(input)?;
        single(constants.get(name.as_str())?)
    };
    let clipped: Vec<&str> = graph
        .nodes()
        .iter()
        .filter(|node| node.op_type() == "Clip" && constant(node, 1) == Some(0))
        .filter_map(|node| node.input.first().map(String::as_str))
        .collect();
    let subs = graph.nodes().iter().enumerate().filter_map(|(index, node)| {
        let feeds_clip = node.output.first().is_some_and(|out| clipped.contains(&out.as_str()));
        let amount = constant(node, 1).filter(|_| node.op_type() == "Sub" && feeds_clip)?;
        Some((index, amount))
    });
    let [(sub, amount)] = subs.collect::<Vec<_>>()[..] else {
        return Err(
            "the place where it shortens the length by the outputs of the carried mel frames cannot be told".into(),
        );
    };
    let slices = graph.nodes().iter().enumerate().filter_map(|(index, node)| {
        let cut = node.op_type() == "Slice" && constant(node, 3) == Some(1) && constant(node, 2) == Some(i64::MAX);
        (cut && constant(node, 1) == Some(amount)).then_some(index)
    });
    let [slice] = slices.collect::<Vec<_>>()[..] else {
        return Err("the place where it drops the outputs of the carried mel frames cannot be told".into());
    };
    match usize::try_from(amount) {
        Ok(amount) if amount > 0 => Ok(CarryDrop { amount, slice, sub }),
        _ => Err(format!("it drops {amount} outputs of the carried mel frames")),
    }
}

fn single(values: &[i64]) -> Option<i64> {
    match *values {
        [value] => Some(value),
        _ => None,
    }
}

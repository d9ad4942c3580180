// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reads the streaming parameters of a cache-aware encoder graph.
//!
//! NeMo's exports have dynamic cache sizes, but contain the actual ones as constants, so they are read from where the
//! graph uses them: the `Clip` that limits the cache length, the `Clip` that limits the number of outputs, the kernel
//! of the depthwise convolutions, the `Slice` and `Sub` that drop the outputs of cached mel frames.

use crate::streaming_geometry::full_width;
use crate::{
    Graph, GraphError, NodeProto, TensorInfo,
    import::canonicalize::{PROMPT_INPUT, expect_sizes, shape},
    ir::boundary::Side,
};

/// Dimensions and limits of a cache-aware encoder, with or without a CTC head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamingConfig {
    /// Mel bands.
    pub mels: usize,
    /// Encoder layers.
    pub layers: usize,
    /// Width of the encoder.
    pub d_model: usize,
    /// Encoder frames of left context: the length of `cache_last_channel`.
    pub left_context: usize,
    /// Frames that the causal convolutions cache: kernel size minus one.
    pub conv_context: usize,
    /// Maximum encoder frames per window: the export's lookahead plus one.
    pub chunk_frames: usize,
    /// Encoder frames dropped at the start of each window.
    pub drop_extra_pre_encoded: usize,
}

impl StreamingConfig {
    /// Reads them from `graph`, which is in the [canonical layout](crate::Contract).
    ///
    /// # Errors
    /// If they cannot be inferred, contradict each other or are not supported.
    pub fn read(graph: &Graph) -> Result<Self, GraphError> {
        let audio = expect(graph, Side::Input, "audio_signal", 3)?;
        let channel = expect(graph, Side::Input, "cache_last_channel", 4)?;
        let time = expect(graph, Side::Input, "cache_last_time", 4)?;
        for (side, name, axes) in [
            (Side::Input, "length", 1),
            (Side::Input, "cache_last_channel_len", 1),
            (Side::Output, "encoded_lengths", 1),
            (Side::Output, "cache_last_channel_next", 4),
            (Side::Output, "cache_last_time_next", 4),
            (Side::Output, "cache_last_channel_next_len", 1),
        ] {
            expect(graph, side, name, axes)?;
        }
        if graph.find(Side::Input, PROMPT_INPUT).is_some() {
            expect(graph, Side::Input, PROMPT_INPUT, 1)?;
        }

        let layers = size(&channel, 1, "number of layers")?;
        let width = size(&channel, 3, "width")?;
        if time.dims[1] != Some(layers) || time.dims[2] != Some(width) {
            return Err(GraphError::Contradiction {
                what: format!(
                    "its cache_last_time {} does not match its cache_last_channel {}",
                    shape(&time.dims),
                    shape(&channel.dims)
                ),
            });
        }
        reject_rotary_positions(graph)?;
        let left = match upper_limit(graph, "cache_last_channel_next_len") {
            Ok(left) => left,
            Err(fault) => channel.dims[2].ok_or(fault)?,
        };
        if left >= FULL_CONTEXT {
            return Err(GraphError::FullContext);
        }
        if channel.dims[2].is_some_and(|frames| frames != left) {
            return Err(GraphError::Contradiction {
                what: format!(
                    "its cache_last_channel is {}, but it keeps {left} frames",
                    shape(&channel.dims)
                ),
            });
        }
        let kernel = depthwise_kernel(graph, width);
        let conv_left = match (time.dims[3], kernel) {
            (None, kernel) => kernel? - 1,
            (Some(frames), Ok(kernel)) if frames != kernel - 1 => {
                return Err(GraphError::Contradiction {
                    what: format!(
                        "its cache_last_time is {}, but its convolutions look back {} frames",
                        shape(&time.dims),
                        kernel - 1
                    ),
                });
            }
            (Some(frames), _) => frames,
        };
        let found = Self {
            mels: size(&audio, 1, "number of mel bands")?,
            layers,
            d_model: width,
            left_context: left,
            conv_context: conv_left,
            chunk_frames: upper_limit(graph, "encoded_lengths")?,
            drop_extra_pre_encoded: find_drop(graph)?.amount,
        };
        found.check_outputs(graph, &audio)?;
        let sizes = [found.mels, layers, width, left, conv_left, found.chunk_frames];
        if sizes.iter().any(|size| !(1..=MAX_DIM).contains(size)) {
            return Err(GraphError::Contradiction {
                what: format!("its sizes are out of range: {found:?}"),
            });
        }
        let chunks = left_context_chunks(graph)?;
        if chunks != left / found.chunk_frames {
            return Err(GraphError::Contradiction {
                what: format!(
                    "its attention has {chunks} chunks of left context, but {left} frames are {} chunks of {}",
                    left / found.chunk_frames,
                    found.chunk_frames
                ),
            });
        }
        if !left.is_multiple_of(found.chunk_frames) {
            return Err(GraphError::SplitChunks {
                left,
                chunk: found.chunk_frames,
            });
        }
        Ok(found)
    }

    /// Checks declared sizes of outputs: ONNX Runtime rejects a tensor of another size, unless a pass has replaced them.
    fn check_outputs(&self, graph: &Graph, audio: &TensorInfo) -> Result<(), GraphError> {
        let [layers, width] = [self.layers, self.d_model].map(Some);
        let channel = [Some(1), layers, Some(self.left_context), width];
        expect_sizes(graph, Side::Output, "cache_last_channel_next", &channel, 0)?;
        let time = [Some(1), layers, width, Some(self.conv_context)];
        expect_sizes(graph, Side::Output, "cache_last_time_next", &time, 0)?;
        // Frames of a chunk, if windows have a fixed width.
        let lookahead = |&lookahead: &usize| Some(full_width(lookahead)) == audio.dims[2];
        let frames = (0..self.chunk_frames).find(lookahead).map(|lookahead| lookahead + 1);
        let (name, fed, time_axis) = match graph.find(Side::Output, "logprobs") {
            Some(_) => ("logprobs", [Some(1), frames, None], 1),
            None => ("outputs", [Some(1), width, frames], 2),
        };
        let declared = expect_sizes(graph, Side::Output, name, &fed, 0)?;
        match (frames, declared.dims[time_axis]) {
            (None, Some(_)) => Err(GraphError::Contradiction {
                what: format!(
                    "its {name} is {}, whatever the number of mel frames",
                    shape(&declared.dims)
                ),
            }),
            _ => Ok(()),
        }
    }

    /// The lookaheads, in encoder frames, that this graph supports: those whose chunks are aligned with the chunks of
    /// its mask.
    pub fn lookaheads(&self) -> Vec<usize> {
        let fits = |lookahead: &usize| self.left_context.is_multiple_of(lookahead + 1);
        (0..self.chunk_frames).filter(fits).collect()
    }
}

/// NeMo's cache size for unlimited left context (`ConformerEncoder.setup_streaming_params`).
const FULL_CONTEXT: usize = 10_000;
/// Larger than any model; prevents excessive allocations.
const MAX_DIM: usize = 16_384;

/// The input or output `name`, which must have `axes` axes and batch size 1.
fn expect(graph: &Graph, side: Side, name: &str, axes: usize) -> Result<TensorInfo, GraphError> {
    let mut fed = vec![None; axes];
    fed[0] = Some(1);
    expect_sizes(graph, side, name, &fed, 0)
}

fn size(info: &TensorInfo, axis: usize, what: &str) -> Result<usize, GraphError> {
    info.dims[axis].ok_or_else(|| GraphError::CannotInfer(format!("the {what} (axis {axis} of {})", info.name)))
}

/// The upper limit of the `Clip` that computes output `name`.
fn upper_limit(graph: &Graph, name: &str) -> Result<usize, GraphError> {
    let limit = || {
        let index = graph.index();
        let mut node = index.node(graph, name)?;
        // There may be casts in between.
        while ["Cast", "Identity"].contains(&node.op_type()) {
            node = index.node(graph, node.input.first()?)?;
        }
        let limit = (node.op_type() == "Clip").then(|| node.input.get(2)).flatten()?;
        single(graph.constants().get(limit.as_str())?)
    };
    let limit = limit().and_then(|limit| usize::try_from(limit).ok());
    limit.ok_or_else(|| GraphError::CannotInfer(format!("the limit of its output {name}")))
}

/// How many previous chunks a frame attends to. NeMo's mask for `chunked_limited` (`ConformerEncoder._create_masks`)
/// numbers the chunks, and frames attend to chunks whose numbers are smaller by at most this: the only `LessOrEqual`
/// with a constant.
fn left_context_chunks(graph: &Graph) -> Result<usize, GraphError> {
    let constants = graph.constants();
    let limits = graph.nodes.iter().filter(|node| node.op_type() == "LessOrEqual");
    let limits: Vec<Option<i64>> = limits
        .map(|node| single(constants.get(node.input.get(1)?.as_str())?))
        .collect();
    match limits[..] {
        [Some(chunks)] => usize::try_from(chunks).map_err(|_| GraphError::FullContext),
        // There is no such mask.
        [] => Err(GraphError::FullContext),
        _ => Err(GraphError::Attention {
            what: "a mask other than that of chunked_limited, such as chunked_limited_with_rc",
        }),
    }
}

/// Only relative positions from a table are supported. Rotary ones are recognized by sines and cosines.
fn reject_rotary_positions(graph: &Graph) -> Result<(), GraphError> {
    let rotary = ["Sin", "Cos", "RotaryEmbedding"];
    match graph.nodes.iter().any(|node| rotary.contains(&node.op_type())) {
        true => Err(GraphError::Attention {
            what: "rotary positions (rope)",
        }),
        false => Ok(()),
    }
}

/// Kernel size of the depthwise convolutions over time (`groups` = encoder width, one axis).
fn depthwise_kernel(graph: &Graph, width: usize) -> Result<usize, GraphError> {
    let attribute = |node: &NodeProto, name: &str| {
        let found = node.attribute.iter().find(|a| a.name() == name);
        found.map(|a| (a.i(), a.ints.clone()))
    };
    let kernel = |node: &NodeProto| {
        let (groups, _) = attribute(node, "group")?;
        let (_, kernel) = attribute(node, "kernel_shape")?;
        let convolution = ["Conv", "ConvInteger"].contains(&node.op_type());
        let depthwise = convolution && groups == width as i64;
        (depthwise && kernel.len() == 1).then(|| kernel[0])
    };
    let mut kernels: Vec<i64> = graph.nodes.iter().filter_map(kernel).collect();
    kernels.dedup();
    match kernels[..] {
        [kernel] if (2..=1024).contains(&kernel) => Ok(kernel as usize),
        _ => Err(GraphError::CannotInfer(format!(
            "the kernel of its causal convolutions (found {kernels:?})"
        ))),
    }
}

/// Where the outputs of cached mel frames are dropped.
pub(crate) struct DropNodes {
    /// Number of dropped outputs.
    pub amount: usize,
    /// Index of the `Slice` that drops them from the pre-encoder's output.
    pub slice: usize,
    /// Index of the `Sub` that subtracts them from the length.
    pub sub: usize,
}

/// Finds NeMo's `(length - drop_extra_pre_encoded).clamp(min=0)` and `audio_signal[:, drop_extra_pre_encoded:, :]`
/// (`ConformerEncoder.forward_internal`): the only `Sub` of a constant before a `Clip` with minimum 0, and the only
/// `Slice` from the same constant to the end of axis 1.
pub(crate) fn find_drop(graph: &Graph) -> Result<DropNodes, GraphError> {
    let constants = graph.constants();
    let constant = |node: &NodeProto, input: usize| {
        let name = node.input.get(input)?;
        single(constants.get(name.as_str())?)
    };
    let clipped: Vec<&str> = graph
        .nodes
        .iter()
        .filter(|node| node.op_type() == "Clip" && constant(node, 1) == Some(0))
        .filter_map(|node| node.input.first().map(String::as_str))
        .collect();
    let subs = graph.nodes.iter().enumerate().filter_map(|(index, node)| {
        let feeds_clip = node.output.first().is_some_and(|out| clipped.contains(&out.as_str()));
        let amount = constant(node, 1).filter(|_| node.op_type() == "Sub" && feeds_clip)?;
        Some((index, amount))
    });
    let [(sub, amount)] = subs.collect::<Vec<_>>()[..] else {
        return Err(GraphError::CannotInfer(
            "the node that subtracts the outputs of cached mel frames from the length".into(),
        ));
    };
    let slices = graph.nodes.iter().enumerate().filter_map(|(index, node)| {
        let cut = node.op_type() == "Slice" && constant(node, 3) == Some(1) && constant(node, 2) == Some(i64::MAX);
        (cut && constant(node, 1) == Some(amount)).then_some(index)
    });
    let [slice] = slices.collect::<Vec<_>>()[..] else {
        return Err(GraphError::CannotInfer(
            "the node that drops the outputs of cached mel frames".into(),
        ));
    };
    match usize::try_from(amount) {
        Ok(amount) if amount > 0 => Ok(DropNodes { amount, slice, sub }),
        _ => Err(GraphError::Contradiction {
            what: format!("it drops {amount} outputs of cached mel frames"),
        }),
    }
}

fn single(values: &[i64]) -> Option<i64> {
    match *values {
        [value] => Some(value),
        _ => None,
    }
}

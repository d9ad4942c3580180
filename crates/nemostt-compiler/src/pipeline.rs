// SPDX-License-Identifier: MIT OR Apache-2.0

//! The passes over an encoder, in the order in which they run.
//!
//! | table | when | what for |
//! |---|---|---|
//! | [`SPECIALIZE`] | at load | fix the window width, which makes shapes, masks and positions constant |
//! | [`FUSE`] | at load, where kernels are used | replace the nodes between two matrix products by operations of `nemostt-kernels` |
//! | [`WEIGHTS`] | at load | precision and packing of the weights |
//! | [`LINK`] | at each start, on what the cache of compiled models holds | on a device, open the batch; on the CPU, append the joint's first scoring, fuse sequences of operations, split off what depends only on lengths |
//!
//! All passes but `quantize-int8` are exact: the same numbers are summed. A pass recognizes what it rewrites by what
//! nodes do, never by their names. What it does not recognize stays as exported, and its [`PassReport`] says so.
//!
//! The tables hold functions instead of trait objects: passes have no state, and a table documents their order.

mod recorder;
mod report;

use crate::{
    Bits, Graph, PROMPT_INPUT, StateSpec, StreamingConfig, fusions,
    ops::{self, DOMAIN},
    passes::{
        cache_projected_kv::cache_projected_kv,
        conv_to_matmul::{depthwise_conv_to_2d, pointwise_conv_to_matmul},
        fold_padding::fold_padding,
        hoist_frame_gather::hoist_frame_gather,
        rel_shift_to_gather::rel_shift_to_gather,
        simplify_masks::simplify_masks,
        split_prompt_matmul::split_prompt_matmul,
        squeeze_batch::squeeze_batch,
        unstack_caches::unstack_caches,
    },
};

pub use self::{
    recorder::{Observer, OutOfMemory, Recorder, specialize},
    report::{Applied, NotApplied, Outcome, PassReport, some},
};
use report::{all_of, at_least};

/// What an encoder is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Whether the graph may contain operations of `nemostt-kernels`.
    pub custom_ops: bool,
    /// Bits of int8 weights, if the encoder is to be quantized.
    pub int8: Option<Bits>,
    /// Whether float16 weights are converted to float32, in which CPUs compute.
    pub convert_fp16: bool,
    /// Whether clips with one bound become `Max` or `Min`, because the provider computes them wrong.
    pub clip_to_min_max: bool,
}

/// What passes know besides the graph.
pub(crate) struct Context<'a> {
    pub(crate) streaming: &'a StreamingConfig,
    pub(crate) lookahead: usize,
    /// The state of a stream between windows. Passes that restructure caches update it.
    pub(crate) states: Vec<StateSpec>,
}

impl Context<'_> {
    /// Removes and returns the state with graph input `input`.
    fn take_state(&mut self, input: &str) -> Option<StateSpec> {
        let index = self.states.iter().position(|state| state.input == input)?;
        Some(self.states.remove(index))
    }
}

/// One pass.
pub struct Pass {
    /// Its name, derived from its file or function.
    pub name: &'static str,
    /// Its effect, in a few words.
    pub summary: &'static str,
    run: fn(&mut Graph, &mut Context<'_>) -> Outcome,
}

/// Passes that fix the graph to one window width.
pub const SPECIALIZE: [Pass; 12] = [
    Pass {
        name: "fold-constants",
        summary: "compute what the fixed width makes constant: shapes, position tables, parts of masks",
        run: |graph, _| {
            let before = graph.nodes.len();
            graph.fold();
            graph.remove_dead();
            some(before.saturating_sub(graph.nodes.len()), "nodes")
        },
    },
    Pass {
        name: "cache-projected-kv",
        summary: "cache keys and values instead of the frames that they are projected from",
        run: |graph, context| {
            move_state(
                graph,
                context,
                "cache_last_channel",
                "keys and values are projected again in each step",
                |graph, state| cache_projected_kv(graph, &state.input, &state.output),
            )
        },
    },
    Pass {
        name: "unstack-caches",
        summary: "give each layer its own convolution cache",
        run: |graph, context| {
            move_state(
                graph,
                context,
                "cache_last_time",
                "convolution caches stay stacked",
                |graph, state| unstack_caches(graph, &state.input, &state.output, 2),
            )
        },
    },
    Pass {
        name: "rel-shift-to-gather",
        summary: "replace the pad, reshape and slice of the relative shift by one gather",
        run: |graph, context| all_of(rel_shift_to_gather(graph), context.streaming.layers, "relative shifts"),
    },
    Pass {
        name: "simplify-masks",
        summary: "mask only what can be invalid: the cache at the start and the padding at the end",
        run: |graph, context| {
            let (attentions, convolutions) = simplify_masks(graph, context.streaming, context.lookahead);
            all_of(attentions + convolutions, 2 * context.streaming.layers, "masks")
        },
    },
    Pass {
        name: "pointwise-conv-to-matmul",
        summary: "compute pointwise convolutions as matrix products",
        run: |graph, context| {
            at_least(
                pointwise_conv_to_matmul(graph),
                2 * context.streaming.layers,
                "convolutions",
            )
        },
    },
    Pass {
        name: "fold-padding",
        summary: "let convolutions pad, instead of a copy before them",
        run: |graph, _| some(fold_padding(graph), "paddings"),
    },
    Pass {
        name: "depthwise-conv-to-2d",
        summary: "compute depthwise convolutions with ONNX Runtime's 2-D kernels, which are faster",
        run: |graph, _| some(depthwise_conv_to_2d(graph), "convolutions"),
    },
    Pass {
        name: "hoist-frame-gather",
        summary: "drop frames before they are projected, not after",
        run: |graph, _| match hoist_frame_gather(graph) {
            true => some(1, "gathers"),
            false => Err(NotApplied::Unsupported(
                "the last matrix product of the subsampling was not found, so that dropped frames are projected, too"
                    .into(),
            )),
        },
    },
    Pass {
        name: "split-prompt-matmul",
        summary: "multilingual models: multiply frames and the language prompt separately",
        run: |graph, _| match graph.input(PROMPT_INPUT) {
            None => Err(NotApplied::Nothing),
            Some(_) => at_least(split_prompt_matmul(graph), 1, "matrix products"),
        },
    },
    Pass {
        name: "squeeze-batch",
        summary: "remove the batch axis of size 1",
        run: |graph, _| some(squeeze_batch(graph), "matrix products"),
    },
    Pass {
        name: "forward-outputs",
        summary: "let nodes write the graph's outputs directly",
        run: |graph, _| {
            let before = graph.nodes.len();
            graph.forward_outputs();
            graph.clean_up();
            some(before.saturating_sub(graph.nodes.len()), "nodes")
        },
    },
];

/// Passes that replace nodes by operations of `nemostt-kernels`.
pub const FUSE: [Pass; 4] = [
    Pass {
        name: "fuse-strided-conv",
        summary: "subsampling: convolutions with channels last, and their masks and ReLUs",
        run: |graph, _| match fusions::strided_conv::fuse(graph) {
            true => some(1, "subsamplings"),
            false => Err(NotApplied::Nothing),
        },
    },
    Pass {
        name: "fuse-rel-pos-attention",
        summary: "attention: the 20 nodes between its matrix products, over a ring of cached keys and values",
        run: |graph, context| {
            all_of(
                fusions::rel_pos_attention::fuse(graph),
                context.streaming.layers,
                "attentions",
            )
        },
    },
    Pass {
        name: "fuse-glu-depthwise-conv",
        summary: "convolution modules: the 12 nodes between their matrix products",
        run: |graph, context| {
            all_of(
                fusions::glu_depthwise_conv::fuse(graph),
                context.streaming.layers,
                "convolution modules",
            )
        },
    },
    Pass {
        name: "fuse-layer-norm",
        summary: "layer normalizations, and the SiLU that follows some",
        run: |graph, context| {
            let found = fusions::layer_norm::fuse(graph);
            graph.clean_up();
            if graph.operations().any(|operation| ops::schema(operation).is_some()) {
                graph.import_domain(DOMAIN);
            }
            let rings = graph.ring_caches();
            for state in &mut context.states {
                state.is_ring = rings.contains(&state.input);
            }
            some(found, "normalizations")
        },
    },
];

/// Name of the pass that replaces clips which OpenVINO computes wrong.
pub const CLIP_TO_MIN_MAX: &str = "clip-to-min-max";
/// Name of the pass that computes matrix products in 8 bits.
pub const QUANTIZE_INT8: &str = "quantize-int8";
/// Name of the pass that packs weights for the micro-kernels.
pub const PREPACK_MATMUL: &str = "prepack-matmul";
/// Name of the pass that converts float16 weights to float32.
pub const FP16_TO_FP32: &str = "fp16-to-fp32";

/// Names and summaries of the passes over weights, which [`Recorder::weights`] runs.
pub const WEIGHTS: [(&str, &str); 4] = [
    (
        CLIP_TO_MIN_MAX,
        "replace clips that have one bound, which OpenVINO computes wrong in 64-bit integers",
    ),
    (QUANTIZE_INT8, "compute matrix products in 8 bits, if requested"),
    (
        PREPACK_MATMUL,
        "order weights as the micro-kernels read them, with biases, activations and residuals as epilogues",
    ),
    (FP16_TO_FP32, "convert float16 weights, in which CPUs do not compute"),
];

/// Name of the pass that appends the joint head to the encoder.
pub const APPEND_JOINT_HEAD: &str = "append-joint-head";
/// Name of the pass that fuses consecutive operations into one program.
pub const FUSE_SUBGRAPH: &str = "fuse-subgraph";
/// Name of the pass that splits off the computation of masks, which depends on lengths only.
pub const SPLIT_LENGTH_GRAPH: &str = "split-length-graph";

/// Name of the pass that lets a run compute a step of several streams.
pub const OPEN_BATCH: &str = "open-batch";
/// Name of the pass that keeps the caches of all streams in tensors on the device.
pub const ADD_SLOTS: &str = "add-slots";
/// Name of the pass that stacks the caches of all layers.
pub const STACK_CACHES: &str = "stack-caches";

/// Names and summaries of the passes that run at each start, on what the cache holds.
pub const LINK: [(&str, &str); 6] = [
    (
        OPEN_BATCH,
        "compute a step of several streams in one run, where the encoder runs in ONNX Runtime on a device",
    ),
    (
        ADD_SLOTS,
        "keep the caches of all streams on the device, and update them in place",
    ),
    (
        STACK_CACHES,
        "stack the caches of all layers, for an inference server that copies them for each step",
    ),
    (
        APPEND_JOINT_HEAD,
        "project and score each chunk's frames in the encoder's own run",
    ),
    (
        FUSE_SUBGRAPH,
        "run consecutive operations as one program of a thread team",
    ),
    (SPLIT_LENGTH_GRAPH, "compute masks only when a length changes"),
];

/// Lets `rewrite` replace the exported state of graph input `input`. If that fails, the state stays; `otherwise` says
/// what that means.
fn move_state(
    graph: &mut Graph,
    context: &mut Context<'_>,
    input: &str,
    otherwise: &str,
    rewrite: impl FnOnce(&mut Graph, &StateSpec) -> Result<Vec<StateSpec>, String>,
) -> Outcome {
    let Some(state) = context.take_state(input) else {
        return Err(NotApplied::Nothing);
    };
    match rewrite(graph, &state) {
        Ok(states) => {
            let count = states.len();
            context.states.extend(states);
            some(count, "caches")
        }
        Err(reason) => {
            context.states.push(state);
            Err(NotApplied::Unsupported(format!("{otherwise}: {reason}")))
        }
    }
}

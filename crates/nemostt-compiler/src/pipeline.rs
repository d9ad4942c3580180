// SPDX-License-Identifier: MIT OR Apache-2.0

//! The passes over an encoder, in the order in which they run, and what became of each.
//!
//! | list | when | what for |
//! |---|---|---|
//! | [`SPECIALIZE`] | at load | one width of windows, so that shapes, masks and positions are constants |
//! | [`FUSE`] | at load, where kernels are used | operations of `nemostt-kernels` in place of the nodes between two products |
//! | [`WEIGHTS`] | at load | the precision of the weights, and their order in memory |
//! | [`LINK`] | at each start, after the cache of compiled models | the joint's first scoring, one program for all layers, the part that depends on lengths alone |
//!
//! Every pass is exact: the same numbers are summed. It finds what it rewrites by what the nodes do, never by their names. What it
//! does not find stays as it was exported, and its [`PassReport`] says so.
//!
//! A list is a constant table of functions and not of trait objects: nothing here has state, and the table is the documentation.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    Bits, Graph, Precision, SpecializedEncoder, StateSpec, StreamingConfig, fusions,
    ops::{self, DOMAIN},
    passes::{
        cache_projected_kv::cache_projected_kv,
        conv_to_matmul::{depthwise_conv_to_2d, pointwise_conv_to_matmul},
        fix_width,
        fold_padding::fold_padding,
        hoist_frame_gather::hoist_frame_gather,
        rel_shift_to_gather::rel_shift_to_gather,
        simplify_masks::simplify_masks,
        squeeze_batch::squeeze_batch,
        unstack_caches::unstack_caches,
    },
};

/// What an encoder is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Whether it may have operations of `nemostt-kernels`.
    pub custom_ops: bool,
    /// Bits of int8 weights, where matrix products are to be computed in 8 bits.
    pub int8: Option<Bits>,
    /// Whether float16 weights are widened: processors compute in float32.
    pub widen_fp16: bool,
}

/// What passes know besides the graph.
pub(crate) struct Context<'a> {
    pub(crate) streaming: &'a StreamingConfig,
    pub(crate) lookahead: usize,
    /// What a stream remembers; passes that move caches change it.
    pub(crate) states: Vec<StateSpec>,
}

impl Context<'_> {
    /// A state of the export, which a pass takes over.
    fn take_state(&mut self, input: &str) -> Option<StateSpec> {
        let place = self.states.iter().position(|state| state.input == input)?;
        Some(self.states.remove(place))
    }
}

/// One pass.
pub struct Pass {
    /// Its name, which is that of its file or function.
    pub name: &'static str,
    /// What it does, in half a line.
    pub summary: &'static str,
    run: fn(&mut Graph, &mut Context<'_>) -> Outcome,
}

/// Whether a pass changed a graph.
pub type Outcome = Result<Applied, NotApplied>;

/// What a pass changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// How many of `what`.
    pub count: usize,
    /// How many there should be; `None`: any number.
    pub expected: Option<usize>,
    /// What was rewritten, in the plural.
    pub what: String,
}

/// Why a pass changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotApplied {
    /// There is nothing for it to do.
    Nothing,
    /// The target does not want it.
    Disabled(String),
    /// What every export of this family has was not found, or has a form that the pass does not know.
    Unsupported(String),
}

/// What became of one pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassReport {
    /// The pass.
    pub pass: String,
    /// What it changed, or why nothing.
    pub outcome: Outcome,
    /// Nodes of the graph before and after.
    pub nodes: [usize; 2],
}

impl PassReport {
    /// A line for the log, where a part of the graph stays slower than it could be.
    pub fn diagnostic(&self) -> Option<String> {
        let is_partial = |applied: &Applied| applied.expected.is_some_and(|expected| applied.count < expected);
        match &self.outcome {
            Ok(applied) if is_partial(applied) => Some(format!("{}: {applied}, the rest stays as exported", self.pass)),
            Err(NotApplied::Unsupported(reason)) => Some(format!("{}: {reason}", self.pass)),
            _ => None,
        }
    }
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.expected {
            Some(expected) => write!(f, "{} of {expected} {}", self.count, self.what),
            None if self.count == 1 => write!(f, "1 {}", self.what.trim_end_matches('s')),
            None => write!(f, "{} {}", self.count, self.what),
        }
    }
}

impl fmt::Display for NotApplied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing to do"),
            Self::Disabled(reason) | Self::Unsupported(reason) => f.write_str(reason),
        }
    }
}

/// Passes that fit the graph to windows of one width.
pub const SPECIALIZE: [Pass; 11] = [
    Pass {
        name: "fold-constants",
        summary: "compute what the fixed width decides: shapes, position tables, parts of masks",
        run: |graph, _| {
            let before = graph.nodes.len();
            graph.fold();
            graph.remove_dead();
            some(before.saturating_sub(graph.nodes.len()), "nodes")
        },
    },
    Pass {
        name: "cache-projected-kv",
        summary: "cache keys and values, not the frames that they are projected from",
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
        summary: "give each layer a convolution cache of its own",
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
        run: |graph, context| of(rel_shift_to_gather(graph), context.streaming.layers, "relative shifts"),
    },
    Pass {
        name: "simplify-masks",
        summary: "mask only what can be invalid: the cache at the start and the padding at the end",
        run: |graph, context| {
            let (attentions, convolutions) = simplify_masks(graph, context.streaming, context.lookahead);
            of(attentions + convolutions, 2 * context.streaming.layers, "masks")
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
        summary: "let convolutions pad, without a copy before them",
        run: |graph, _| some(fold_padding(graph), "paddings"),
    },
    Pass {
        name: "depthwise-conv-to-2d",
        summary: "let ONNX Runtime's two-axis kernels compute depthwise convolutions",
        run: |graph, _| some(depthwise_conv_to_2d(graph), "convolutions"),
    },
    Pass {
        name: "hoist-frame-gather",
        summary: "drop the frames of the carry before they are projected",
        run: |graph, _| match hoist_frame_gather(graph) {
            true => some(1, "gathers"),
            false => Err(NotApplied::Unsupported(
                "the last product of the subsampling was not found, so dropped frames are projected, too".into(),
            )),
        },
    },
    Pass {
        name: "squeeze-batch",
        summary: "compute with matrices, without the batch axis of size 1",
        run: |graph, _| some(squeeze_batch(graph), "products"),
    },
    Pass {
        name: "forward-outputs",
        summary: "let nodes write outputs directly",
        run: |graph, _| {
            let before = graph.nodes.len();
            graph.forward_outputs();
            graph.clean_up();
            some(before.saturating_sub(graph.nodes.len()), "nodes")
        },
    },
];

/// Passes that put operations of `nemostt-kernels` in.
pub const FUSE: [Pass; 4] = [
    Pass {
        name: "fuse-strided-conv",
        summary: "subsampling: convolutions with channels last, with their masks and ReLUs",
        run: |graph, _| match fusions::strided_conv::fuse(graph) {
            true => some(1, "subsamplings"),
            false => Err(NotApplied::Nothing),
        },
    },
    Pass {
        name: "fuse-rel-pos-attention",
        summary: "attention: the 20 nodes between its products, over a ring of cached keys and values",
        run: |graph, context| {
            of(
                fusions::rel_pos_attention::fuse(graph),
                context.streaming.layers,
                "attentions",
            )
        },
    },
    Pass {
        name: "fuse-glu-depthwise-conv",
        summary: "convolution modules: the 12 nodes between their products",
        run: |graph, context| {
            of(
                fusions::glu_depthwise_conv::fuse(graph),
                context.streaming.layers,
                "convolution modules",
            )
        },
    },
    Pass {
        name: "fuse-layer-norm",
        summary: "layer normalizations, with the SiLU behind some",
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

/// Names and summaries of the passes that choose the precision of weights and pack them: [`Recorder::weights`].
pub const WEIGHTS: [(&str, &str); 3] = [
    (
        "quantize-int8",
        "compute matrix products in 8 bits, if that is asked for",
    ),
    (
        "prepack-matmul",
        "order weights as the micro-kernels read them, with biases, activations and residuals as epilogues",
    ),
    (
        "fp16-to-fp32",
        "widen float16 weights, which processors do not multiply",
    ),
];

/// Names and summaries of the passes that run at each start, on what the cache holds.
pub const LINK: [(&str, &str); 3] = [
    (
        "append-joint-head",
        "project and score each chunk's frames in the encoder's own run",
    ),
    (
        "fuse-subgraph",
        "run operations that follow each other as one program of a thread team",
    ),
    ("split-length-graph", "compute masks only when a length changes"),
];

/// Gets the name of each pass, and the graph after it.
pub type Observer<'a> = dyn FnMut(&str, &Graph) + 'a;

/// Runs passes and writes down what became of them.
#[derive(Default)]
pub struct Recorder<'a> {
    /// What became of them, in order.
    pub reports: Vec<PassReport>,
    /// Gets each pass' name and the graph behind it.
    pub observer: Option<&'a mut Observer<'a>>,
}

impl Recorder<'_> {
    /// Runs `passes` over `graph`.
    pub(crate) fn run(&mut self, passes: &[Pass], graph: &mut Graph, context: &mut Context<'_>) {
        for pass in passes {
            self.step(pass.name, graph, |graph| (pass.run)(graph, context));
        }
    }

    /// Runs one pass.
    pub fn step(&mut self, pass: &str, graph: &mut Graph, run: impl FnOnce(&mut Graph) -> Outcome) {
        let before = graph.nodes.len();
        let outcome = run(graph);
        self.note(pass, outcome, [before, graph.nodes.len()]);
        if let Some(observer) = &mut self.observer {
            observer(pass, graph);
        }
    }

    /// Writes down what became of a pass.
    pub fn note(&mut self, pass: &str, outcome: Outcome, nodes: [usize; 2]) {
        self.reports.push(PassReport {
            pass: pass.into(),
            outcome,
            nodes,
        });
    }

    /// The passes of [`SPECIALIZE`], for windows of lookahead `lookahead`. All windows of a stream then have the same width, with the
    /// number of dropped outputs as input [`DROP_INPUT`](crate::DROP_INPUT).
    ///
    /// # Errors
    /// A sentence that says why `graph` cannot be rewritten at all; it is not usable then.
    pub fn specialize(
        &mut self,
        graph: &mut Graph,
        streaming: &StreamingConfig,
        lookahead: usize,
    ) -> Result<SpecializedEncoder, String> {
        let width = fix_width(graph, streaming, lookahead)?;
        let mut context = Context {
            streaming,
            lookahead,
            states: StateSpec::of_export(streaming),
        };
        self.run(&SPECIALIZE, graph, &mut context);
        Ok(SpecializedEncoder {
            width,
            lookahead,
            states: context.states,
        })
    }

    /// The passes of [`FUSE`], over a graph that was specialized.
    pub fn fuse(
        &mut self,
        graph: &mut Graph,
        specialized: &mut SpecializedEncoder,
        streaming: &StreamingConfig,
        target: &Target,
    ) {
        if !target.custom_ops {
            let nodes = [graph.nodes.len(); 2];
            FUSE.iter()
                .for_each(|pass| self.note(pass.name, Err(no_kernels()), nodes));
            return;
        }
        let mut context = Context {
            streaming,
            lookahead: specialized.lookahead,
            states: std::mem::take(&mut specialized.states),
        };
        self.run(&FUSE, graph, &mut context);
        specialized.states = context.states;
    }

    /// The passes of [`WEIGHTS`]. Returns the precision of most weights.
    ///
    /// # Errors
    /// There is not enough memory for the weights in their new form.
    pub fn weights(&mut self, graph: &mut Graph, target: &Target) -> Result<Precision, OutOfMemory> {
        let held = graph.precision();
        let mut precision = held;
        self.step(WEIGHTS[0].0, graph, |graph| {
            let bits = target
                .int8
                .ok_or_else(|| NotApplied::Disabled("int8 is not asked for".into()))?;
            if held != Precision::Fp32 {
                return Err(NotApplied::Unsupported(format!("it holds {} already", held.name())));
            }
            match graph.quantize(bits) {
                0 => Err(NotApplied::Unsupported("no product was found in its layers".into())),
                count => {
                    precision = Precision::Int8;
                    some(count, "products")
                }
            }
        });
        self.prepack(graph, target)?;
        self.widen(graph, target)?;
        Ok(precision)
    }

    /// `fp16-to-fp32` alone.
    ///
    /// # Errors
    /// There is not enough memory for the widened weights.
    pub fn widen(&mut self, graph: &mut Graph, target: &Target) -> Result<(), OutOfMemory> {
        let mut failed = None;
        self.step(WEIGHTS[2].0, graph, |graph| {
            match target.widen_fp16 && graph.precision() == Precision::Fp16 {
                true => match graph.fp16_to_fp32() {
                    Ok(()) => some(graph.initializers.len(), "weights"),
                    Err(error) => {
                        failed = Some(OutOfMemory {
                            doing: "widen the weights",
                            reason: error.to_string(),
                        });
                        Err(NotApplied::Unsupported(error.to_string()))
                    }
                },
                false => Err(NotApplied::Nothing),
            }
        });
        failed.map_or(Ok(()), Err)
    }

    /// `prepack-matmul` alone, as the prediction network and the joint have it.
    ///
    /// # Errors
    /// There is not enough memory for the packed weights.
    pub fn prepack(&mut self, graph: &mut Graph, target: &Target) -> Result<(), OutOfMemory> {
        let mut failed = None;
        self.step(WEIGHTS[1].0, graph, |graph| {
            if !target.custom_ops {
                return Err(no_kernels());
            }
            if graph.precision() != Precision::Fp32 {
                return Err(NotApplied::Nothing);
            }
            match graph.prepack_matmuls() {
                Ok(count) => some(count, "products"),
                Err(error) => {
                    failed = Some(OutOfMemory {
                        doing: "pack the weights",
                        reason: error.to_string(),
                    });
                    Err(NotApplied::Unsupported(error.to_string()))
                }
            }
        });
        failed.map_or(Ok(()), Err)
    }
}

/// See [`Recorder::specialize`]. Also returns the outcome of each pass.
///
/// # Errors
/// As for [`Recorder::specialize`].
pub fn specialize(
    graph: &mut Graph,
    streaming: &StreamingConfig,
    lookahead: usize,
) -> Result<(SpecializedEncoder, Vec<PassReport>), String> {
    let mut recorder = Recorder::default();
    let specialized = recorder.specialize(graph, streaming, lookahead)?;
    Ok((specialized, recorder.reports))
}

/// There is not enough memory for a pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is not enough memory to {doing}: {reason}")]
pub struct OutOfMemory {
    /// What it was needed for.
    pub doing: &'static str,
    /// The system's words.
    pub reason: String,
}

fn no_kernels() -> NotApplied {
    NotApplied::Disabled("kernels are not used on this target".into())
}

/// `count` things were rewritten; none: there was nothing to do.
pub fn some(count: usize, what: &str) -> Outcome {
    match count {
        0 => Err(NotApplied::Nothing),
        count => Ok(Applied {
            count,
            expected: None,
            what: what.into(),
        }),
    }
}

/// Each of `expected` is in every export.
fn of(count: usize, expected: usize, what: &str) -> Outcome {
    Ok(Applied {
        count,
        expected: Some(expected),
        what: what.into(),
    })
}

/// There are `expected` in every export, and some have more.
fn at_least(count: usize, expected: usize, what: &str) -> Outcome {
    of(count, expected.max(count), what)
}

/// Lets `rewrite` take a state of the export apart; it stays as it is where that fails.
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

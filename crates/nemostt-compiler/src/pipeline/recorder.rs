// SPDX-License-Identifier: MIT OR Apache-2.0

//! Runs passes and records their outcomes.

use std::io;

use super::{
    CLIP_TO_MIN_MAX, Context, FP16_TO_FP32, FUSE, NotApplied, Outcome, PREPACK_MATMUL, Pass, PassReport, QUANTIZE_INT8,
    SPECIALIZE, Target, some,
};
use crate::{Graph, Precision, SpecializedEncoder, StateSpec, StreamingConfig, passes::fix_width};

/// Called after each pass, with its name and the graph.
pub type Observer<'a> = dyn FnMut(&str, &Graph) + 'a;

/// Runs passes and collects a [`PassReport`] of each.
#[derive(Default)]
pub struct Recorder<'a> {
    /// One report per pass, in order.
    pub reports: Vec<PassReport>,
    /// Called after each pass, if set.
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

    /// Records the outcome of a pass that the caller ran; `nodes` is the number of nodes before and after.
    pub fn note(&mut self, pass: &str, outcome: Outcome, nodes: [usize; 2]) {
        self.reports.push(PassReport {
            pass: pass.into(),
            outcome,
            nodes,
        });
    }

    /// Runs the passes of [`SPECIALIZE`], for windows with `lookahead` encoder frames of right context. All windows of
    /// a stream then have the same width, and the number of dropped frames is the input
    /// [`DROP_INPUT`](crate::DROP_INPUT).
    ///
    /// # Errors
    /// A sentence that says why `graph` cannot be specialized. The graph is then not usable.
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

    /// Runs the passes of [`FUSE`] over a specialized graph.
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

    /// Runs the passes of [`WEIGHTS`](super::WEIGHTS) and returns the precision of most weights.
    ///
    /// # Errors
    /// If there is not enough memory for the converted weights.
    pub fn weights(&mut self, graph: &mut Graph, target: &Target) -> Result<Precision, OutOfMemory> {
        let exported = graph.precision();
        let mut precision = exported;
        self.step(CLIP_TO_MIN_MAX, graph, |graph| match target.clip_to_min_max {
            true => some(graph.clip_to_min_max(), "clips"),
            false => Err(NotApplied::Disabled("only needed for OpenVINO".into())),
        });
        self.step(QUANTIZE_INT8, graph, |graph| {
            let bits = target
                .int8
                .ok_or_else(|| NotApplied::Disabled("int8 was not requested".into()))?;
            if exported != Precision::Fp32 {
                let reason = format!("its weights are {} already", exported.name());
                return Err(NotApplied::Unsupported(reason));
            }
            match graph.quantize(bits) {
                0 => Err(NotApplied::Unsupported(
                    "no matrix product was found in its layers".into(),
                )),
                count => {
                    precision = Precision::Int8;
                    some(count, "matrix products")
                }
            }
        });
        self.prepack(graph, target)?;
        self.convert_fp16(graph, target)?;
        Ok(precision)
    }

    /// Runs `fp16-to-fp32` only.
    ///
    /// # Errors
    /// If there is not enough memory for the float32 weights.
    pub fn convert_fp16(&mut self, graph: &mut Graph, target: &Target) -> Result<(), OutOfMemory> {
        self.try_step(FP16_TO_FP32, "convert the weights to float32", graph, |graph| {
            if !target.convert_fp16 || graph.precision() != Precision::Fp16 {
                return Ok(Err(NotApplied::Nothing));
            }
            graph.fp16_to_fp32()?;
            Ok(some(graph.initializers.len(), "weights"))
        })
    }

    /// Runs `prepack-matmul` only, for the prediction network and the joint.
    ///
    /// # Errors
    /// If there is not enough memory for the packed weights.
    pub fn prepack(&mut self, graph: &mut Graph, target: &Target) -> Result<(), OutOfMemory> {
        self.try_step(PREPACK_MATMUL, "pack the weights", graph, |graph| {
            if !target.custom_ops {
                return Ok(Err(no_kernels()));
            }
            if graph.precision() != Precision::Fp32 {
                return Ok(Err(NotApplied::Nothing));
            }
            Ok(some(graph.prepack_matmuls()?, "matrix products"))
        })
    }

    /// Runs a pass that fails if there is not enough memory.
    fn try_step(
        &mut self,
        pass: &str,
        doing: &'static str,
        graph: &mut Graph,
        run: impl FnOnce(&mut Graph) -> io::Result<Outcome>,
    ) -> Result<(), OutOfMemory> {
        let mut result = Ok(());
        self.step(pass, graph, |graph| {
            run(graph).unwrap_or_else(|error| {
                let reason = error.to_string();
                result = Err(OutOfMemory {
                    doing,
                    reason: reason.clone(),
                });
                Err(NotApplied::Unsupported(reason))
            })
        });
        result
    }
}

/// Runs [`Recorder::specialize`]. Also returns the report of each pass.
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
    /// The error of the operating system.
    pub reason: String,
}

fn no_kernels() -> NotApplied {
    NotApplied::Disabled("kernels are not used on this target".into())
}

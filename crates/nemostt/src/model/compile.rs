// SPDX-License-Identifier: MIT OR Apache-2.0

//! Compiles the graph of an encoder before it is loaded: see [`pipeline`] for the passes and their order.

use super::{
    graph_dump::GraphDump,
    runtime::{LogLevel, log},
    target::Target,
};
use crate::{
    error::{Error, Result},
    memory_guard,
};
use nemostt_compiler::{
    Encoded, Graph, Precision, SpecializedEncoder, StateSpec, StreamingConfig,
    pipeline::{
        ADD_SLOTS, FUSE_SUBGRAPH, NotApplied, OPEN_BATCH, OutOfMemory, Outcome, PassReport, QUANTIZE_INT8, Recorder,
        some,
    },
};

/// An encoder ready to be loaded by ONNX Runtime.
pub(super) struct CompiledEncoder {
    pub(super) encoded: Encoded,
    /// The state of a stream between windows, besides the length of the attention cache.
    pub(super) states: Vec<StateSpec>,
    /// Window width, if all windows must have the same.
    pub(super) width: Option<usize>,
    /// Precision of most of the weights.
    pub(super) precision: Precision,
    /// The outcome of each pass.
    pub(super) passes: Vec<PassReport>,
}

impl CompiledEncoder {
    /// Fuses sequences of operators into programs, also if the encoder was read from the cache.
    pub(super) fn fuse_subgraphs(&mut self, name: &str) {
        let outcome = match self.encoded.fuse_subgraphs() {
            Ok(count) => some(count, "operations"),
            Err(reason) => {
                log(
                    LogLevel::Info,
                    &format!("{name} runs without fused subgraphs: {reason}"),
                );
                Err(NotApplied::Unsupported(reason))
            }
        };
        self.note_link(FUSE_SUBGRAPH, outcome);
    }

    /// Lets a run compute a step of several streams, whose caches stay on the device. If that is not possible, logs why;
    /// the encoder is then unchanged.
    pub(super) fn batch_streams(&mut self, name: &str) -> bool {
        let mut states = self.states.clone();
        let exported = self.encoded.model.clone();
        let opened = self.encoded.open_batch(&mut states);
        let mut outcomes = vec![(OPEN_BATCH, opened)];
        if outcomes.iter().all(|(_, outcome)| outcome.is_ok()) {
            outcomes.push((ADD_SLOTS, self.encoded.add_slots(&states)));
        }
        let failed = outcomes.iter().find_map(|(_, outcome)| outcome.as_ref().err());
        match failed {
            Some(reason) => {
                self.encoded.model = exported;
                log(LogLevel::Warning, &format!("{name}: streams are not batched: {reason}"));
            }
            None => self.states = states,
        }
        let is_batched = failed.is_none();
        for (pass, outcome) in outcomes {
            let outcome = match outcome {
                Ok(()) if is_batched => some(self.states.len(), "caches"),
                Ok(()) => Err(NotApplied::Unsupported(
                    "undone, because the pass after it failed".into(),
                )),
                Err(reason) => Err(NotApplied::Unsupported(reason)),
            };
            self.note_link(pass, outcome);
        }
        is_batched
    }

    /// Records the outcome of `pass`, one of [`LINK`](nemostt_compiler::pipeline::LINK).
    pub(super) fn note_link(&mut self, pass: &str, outcome: Outcome) {
        let nodes = self.passes.last().map_or(0, |report| report.nodes[1]);
        let mut recorder = Recorder::default();
        recorder.note(pass, outcome, [nodes; 2]);
        self.passes.append(&mut recorder.reports);
    }

    /// Whether compiling takes longer than reading the result from the cache would.
    pub(super) fn is_worth_caching(&self, exported: Precision) -> bool {
        !self.encoded.packed_weights.is_empty() || self.precision != exported
    }
}

/// A specialized encoder, and the outcome of each pass so far.
pub(super) struct Specialized<'a> {
    graph: Graph,
    encoder: SpecializedEncoder,
    passes: Vec<PassReport>,
    dump: GraphDump<'a>,
}

/// Specializes `graph`.
///
/// # Errors
/// A sentence that says why it cannot be specialized.
pub(super) fn specialize<'a>(
    graph: &Graph,
    streaming: &StreamingConfig,
    lookahead: usize,
    target: &'a Target,
) -> std::result::Result<Specialized<'a>, String> {
    let mut graph = graph.clone();
    let mut dump = GraphDump::new(target.dump_graphs.as_deref());
    let mut observer = |pass: &str, graph: &Graph| dump.write(pass, graph);
    let mut recorder = Recorder {
        observer: Some(&mut observer),
        ..Default::default()
    };
    let encoder = recorder.specialize(&mut graph, streaming, lookahead)?;
    Ok(Specialized {
        graph,
        encoder,
        passes: recorder.reports,
        dump,
    })
}

/// Compiles a specialized encoder for `target`.
pub(super) fn compile_specialized(
    specialized: Specialized<'_>,
    name: &str,
    streaming: &StreamingConfig,
    target: &Target,
) -> Result<CompiledEncoder> {
    let Specialized {
        mut graph,
        mut encoder,
        passes,
        mut dump,
    } = specialized;
    let mut observer = |pass: &str, graph: &Graph| dump.write(pass, graph);
    let mut recorder = Recorder {
        reports: passes,
        observer: Some(&mut observer),
    };
    recorder.fuse(&mut graph, &mut encoder, streaming, &target.passes);
    let precision = convert_weights(&mut recorder, &mut graph, name, target)?;
    for line in recorder.reports.iter().filter_map(PassReport::diagnostic) {
        log(LogLevel::Info, &format!("{name}: {line}"));
    }
    Ok(CompiledEncoder {
        encoded: graph.encode(),
        states: encoder.states,
        width: Some(encoder.width),
        precision,
        passes: recorder.reports,
    })
}

/// Converts only the weights of `graph` of file `name`.
pub(super) fn compile_export(
    mut graph: Graph,
    name: &str,
    streaming: &StreamingConfig,
    width: Option<usize>,
    target: &Target,
) -> Result<CompiledEncoder> {
    let mut recorder = Recorder::default();
    // Custom operators need a specialized graph.
    let mut target = target.clone();
    target.passes.custom_ops = false;
    let precision = convert_weights(&mut recorder, &mut graph, name, &target)?;
    Ok(CompiledEncoder {
        encoded: graph.encode(),
        states: StateSpec::of_export(streaming),
        width,
        precision,
        passes: recorder.reports,
    })
}

/// Runs the passes over weights. Warns if int8 was requested and is not possible.
fn convert_weights(recorder: &mut Recorder<'_>, graph: &mut Graph, name: &str, target: &Target) -> Result<Precision> {
    memory_guard::check(format!("load {name}"))?;
    let precision = recorder
        .weights(graph, &target.passes)
        .map_err(|error| out_of_memory(name, error))?;
    if target.passes.int8.is_some() {
        let quantized = recorder.reports.iter().find(|report| report.pass == QUANTIZE_INT8);
        if let Some(Err(reason)) = quantized.map(|report| &report.outcome) {
            log(LogLevel::Warning, &format!("{name} is not quantized to int8: {reason}"));
        }
    }
    Ok(precision)
}

pub(super) fn out_of_memory(name: &str, error: OutOfMemory) -> Error {
    Error::OutOfMemory {
        doing: format!("{} of {name}", error.doing),
        reason: error.reason,
    }
}

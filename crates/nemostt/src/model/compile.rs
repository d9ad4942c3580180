// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is done to the graph of an encoder before it runs: rewritten, made int8, its products packed.

use super::{
    custom_op_policy::{prepack_matmuls, use_custom_ops},
    options::{Device, Options, PrecisionChoice},
    runtime::{LogLevel, device_of, encode, log},
};
use crate::error::Result;
use nemostt_compiler::{Bits, Encoded, Graph, Precision, SpecializedEncoder, StateSpec, StreamingConfig, specialize};

/// An encoder as ONNX Runtime takes it.
pub(super) struct CompiledEncoder {
    pub(super) encoded: Encoded,
    /// What a stream remembers between windows, besides the length of the attention cache.
    pub(super) states: Vec<StateSpec>,
    /// The one width of all windows; `None`: as they come.
    pub(super) width: Option<usize>,
    /// What most of the weights are.
    pub(super) precision: Precision,
}

impl CompiledEncoder {
    /// Makes chains of its operations, wherever it was prepared.
    pub(super) fn fuse_subgraphs(&mut self, name: &str) {
        if let Err(reason) = self.encoded.fuse_subgraphs() {
            log(LogLevel::Info, &format!("{name} is run without chains: {reason}"));
        }
    }

    /// Whether preparing it takes longer than reading it would.
    pub(super) fn is_worth_caching(&self, held: Precision) -> bool {
        !self.encoded.products.is_empty() || self.precision != held
    }
}

/// Rewrites `graph` of file `name`, which was planned as `plan` says, for what it will run on.
pub(super) fn compile_specialized(
    mut graph: Graph,
    mut plan: SpecializedEncoder,
    name: &str,
    layers: usize,
    options: &Options,
) -> Result<CompiledEncoder> {
    if use_custom_ops(options)? {
        let (attentions, convolutions) = graph.fuse();
        if (attentions, convolutions) != (layers, layers) {
            let line = format!(
                "{name}: {attentions} attentions and {convolutions} convolutions of {layers} layers are run as one \
                 operation each"
            );
            log(LogLevel::Info, &line);
        }
        let rings = graph.ring_caches();
        for state in &mut plan.states {
            state.is_ring = rings.contains(&state.input);
        }
    }
    let precision = choose_precision(&mut graph, name, options)?;
    prepack_matmuls(&mut graph, name, options)?;
    Ok(CompiledEncoder {
        encoded: encode(graph, name, options)?,
        states: plan.states,
        width: Some(plan.width),
        precision,
    })
}

/// Leaves `graph` of file `name` as it is, but for its precision.
pub(super) fn compile_export(
    mut graph: Graph,
    name: &str,
    streaming: &StreamingConfig,
    width: Option<usize>,
    options: &Options,
) -> Result<CompiledEncoder> {
    let precision = choose_precision(&mut graph, name, options)?;
    Ok(CompiledEncoder {
        encoded: encode(graph, name, options)?,
        states: StateSpec::of_export(streaming),
        width,
        precision,
    })
}

/// Makes 8-bit products of the graph's if `options` ask for that, or says in the log why not. Gives what most weights are
/// then.
fn choose_precision(graph: &mut Graph, name: &str, options: &Options) -> Result<Precision> {
    let (held, device) = (graph.precision(), device_of(options)?);
    if options.precision != PrecisionChoice::Int8 {
        return Ok(held);
    }
    let reason = match device {
        Device::Cuda => "ONNX Runtime multiplies 8 bits on the processor only".into(),
        _ if held != Precision::Fp32 => format!("it holds {} already", held.name()),
        _ => match graph.quantize(Bits::detect()) {
            0 => "no product was found in its layers".into(),
            _ => return Ok(Precision::Int8),
        },
    };
    log(LogLevel::Warning, &format!("{name} is not made int8: {reason}"));
    Ok(held)
}

/// The graph rewritten; `None`, with a line in the log, where that cannot be done.
pub(super) fn specialized(
    name: &str,
    graph: &Graph,
    streaming: &StreamingConfig,
    lookahead: usize,
) -> Option<(Graph, SpecializedEncoder)> {
    let mut graph = graph.clone();
    match specialize(&mut graph, streaming, lookahead) {
        Ok(plan) => {
            for reason in &plan.diagnostics {
                log(LogLevel::Info, &format!("{name}: {reason}"));
            }
            Some((graph, plan))
        }
        Err(reason) => {
            log(LogLevel::Warning, &format!("{name} is run as it is: {reason}"));
            None
        }
    }
}

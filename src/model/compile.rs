// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is done to the graph of an encoder before it runs: rewritten, made int8, its products packed.

use super::{
    custom_op_policy::{may_be_ours, pack_products},
    options::{Device, Options, PrecisionChoice},
    runtime::{LogLevel, device_of, encode, note},
};
use crate::{
    error::Result,
    graph::{Bits, Encoded, Graph, Plan, Precision, State, Streaming, plan},
};

/// An encoder as ONNX Runtime takes it.
pub(super) struct Prepared {
    pub(super) encoded: Encoded,
    /// What a stream remembers between windows, besides the length of the attention cache.
    pub(super) states: Vec<State>,
    /// The one width of all windows; `None`: as they come.
    pub(super) width: Option<usize>,
    /// What most of the weights are.
    pub(super) precision: Precision,
}

impl Prepared {
    /// Makes chains of its operations, wherever it was prepared.
    pub(super) fn chain(&mut self, name: &str) {
        if let Err(reason) = self.encoded.chain() {
            note(LogLevel::Info, &format!("{name} is run without chains: {reason}"));
        }
    }

    /// Whether preparing it takes longer than reading it would.
    pub(super) fn is_worth_keeping(&self, held: Precision) -> bool {
        !self.encoded.products.is_empty() || self.precision != held
    }
}

/// Rewrites `graph` of file `name`, which was planned as `plan` says, for what it will run on.
pub(super) fn prepare_planned(
    mut graph: Graph,
    mut plan: Plan,
    name: &str,
    layers: usize,
    options: &Options,
) -> Result<Prepared> {
    if may_be_ours(options)? {
        let (attentions, convolutions) = graph.fuse();
        if (attentions, convolutions) != (layers, layers) {
            let line = format!(
                "{name}: {attentions} attentions and {convolutions} convolutions of {layers} layers are run as one \
                 operation each"
            );
            note(LogLevel::Info, &line);
        }
        let rings = graph.rings();
        for state in &mut plan.states {
            state.is_ring = rings.contains(&state.input);
        }
    }
    let precision = choose_precision(&mut graph, name, options)?;
    pack_products(&mut graph, name, options)?;
    Ok(Prepared {
        encoded: encode(graph, name, options)?,
        states: plan.states,
        width: Some(plan.width),
        precision,
    })
}

/// Leaves `graph` of file `name` as it is, but for its precision.
pub(super) fn prepare_export(
    mut graph: Graph,
    name: &str,
    streaming: &Streaming,
    width: Option<usize>,
    options: &Options,
) -> Result<Prepared> {
    let precision = choose_precision(&mut graph, name, options)?;
    Ok(Prepared {
        encoded: encode(graph, name, options)?,
        states: State::of_export(streaming),
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
        _ => match graph.quantise(Bits::of_this_processor()) {
            0 => "no product was found in its layers".into(),
            _ => return Ok(Precision::Int8),
        },
    };
    note(LogLevel::Warning, &format!("{name} is not made int8: {reason}"));
    Ok(held)
}

/// The graph rewritten; `None`, with a line in the log, where that cannot be done.
pub(super) fn planned(name: &str, graph: &Graph, streaming: &Streaming, lookahead: usize) -> Option<(Graph, Plan)> {
    let mut graph = graph.clone();
    match plan(&mut graph, streaming, lookahead) {
        Ok(plan) => {
            for reason in &plan.notes {
                note(LogLevel::Info, &format!("{name}: {reason}"));
            }
            Some((graph, plan))
        }
        Err(reason) => {
            note(LogLevel::Warning, &format!("{name} is run as it is: {reason}"));
            None
        }
    }
}

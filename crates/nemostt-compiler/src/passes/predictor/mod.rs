// SPDX-License-Identifier: MIT OR Apache-2.0

//! Rewrites a prediction network for one label a call, so that it reads about half of its weights.
//!
//! A call takes as long as memory needs to deliver the weights of the LSTM, W for its input and R for its state. What W
//! makes of a label's embedding is the same in every call: it becomes a table, of which a call reads one row. R is left as
//! a product with a constant, and the gates as one operation of ours or as single ones (`unfold_lstm.rs`). Layers behind the first one stay: their
//! input is no label, and two products are no faster than ONNX Runtime's LSTM.

mod layer;
#[cfg(test)]
mod tests;
mod unfold_lstm;

use std::collections::HashMap;

pub use self::unfold_lstm::LSTM_CELL;
use crate::{Graph, TransducerShape, fusions::prepack_matmul::DOMAIN};
use crate::{ir::net::Net, passes::check_supported};

/// Rewrites `graph`, which is brought to the contract of [`TransducerGraphs`](crate::TransducerGraphs), for calls
/// with one label; with operations of our own where those may be used (`ours`). Gives what was not recognised and so left as it
/// is, and why.
///
/// # Errors
/// A sentence that says why nothing can be rewritten; `graph` is not usable then.
pub fn specialize_predictor(graph: &mut Graph, shape: &TransducerShape, ours: bool) -> Result<Vec<String>, String> {
    check_supported(graph)?;
    // A table twice, and weights once more as numbers, turned, and as bytes.
    let room = usize::try_from(graph.weights())
        .unwrap_or(usize::MAX)
        .saturating_mul(3 * size_of::<f32>());
    Vec::<u8>::new()
        .try_reserve_exact(room.saturating_add(2 * unfold_lstm::MAX_TABLE_BYTES))
        .map_err(|error| error.to_string())?;
    let mut net = Net::from_onnx(graph);
    let states = [shape.layers, 1, shape.hidden];
    let inputs: [(&str, &[usize]); 3] = [
        ("targets", &[1, 1]),
        ("input_states_1", &states),
        ("input_states_2", &states),
    ];
    for (name, dims) in inputs {
        net.fix_input(name, dims)
            .ok_or_else(|| format!("it has no input {name}"))?;
    }
    simplify(&mut net)?;
    let mut left: Vec<Vec<String>> = Vec::new();
    let mut diagnostics = Vec::new();
    let mut done = 0;
    let next = |net: &Net, left: &[Vec<String>]| {
        let is_next = |node: &crate::NodeProto| node.op_type() == "LSTM" && !left.contains(&node.output);
        net.nodes.iter().position(is_next)
    };
    while let Some(number) = next(&net, &left) {
        match unfold_lstm::decompose_lstm(&mut net, number, ours) {
            Ok(()) => done += 1,
            Err(reason) => {
                left.push(net.nodes[number].output.clone());
                diagnostics.push(format!("LSTM layer {} stays as it is: {reason}", done + left.len()));
            }
        }
        simplify(&mut net)?;
    }
    if done == 0 {
        diagnostics.push("no layer of it is an LSTM in float32".into());
        return Err(diagnostics.swap_remove(0));
    }
    net.into_onnx(graph);
    if ours {
        graph.import_domain(DOMAIN);
    }
    Ok(diagnostics)
}

/// Computes what is fixed, and takes out what only changes shapes back and forth.
fn simplify(net: &mut Net) -> Result<(), String> {
    net.sort().ok_or("its nodes wait for each other in a circle")?;
    net.fold();
    remove_noop_chains(net);
    net.remove_dead();
    Ok(())
}

/// Lets who reads a tensor read an earlier one that has the same values in the same order and shape.
fn remove_noop_chains(net: &mut Net) {
    let mut sources: HashMap<String, String> = HashMap::new();
    for number in 0..net.nodes.len() {
        let node = &net.nodes[number];
        if !net.movement(node).is_some_and(|movement| movement.keeps_order()) {
            continue;
        }
        let (input, output) = (node.input[0].clone(), node.output[0].clone());
        sources.insert(output.clone(), input);
        let mut source = sources.get(&output);
        while let Some(name) = source {
            if net.shape(name) == net.shape(&output) {
                let name = name.clone();
                net.rename_uses(&output, &name);
                break;
            }
            source = sources.get(name);
        }
    }
}

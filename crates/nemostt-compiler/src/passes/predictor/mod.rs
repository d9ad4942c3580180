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

use crate::passes::check_supported;
use crate::{Graph, TransducerShape, ops::DOMAIN};

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
    let states = [shape.layers, 1, shape.hidden];
    let inputs: [(&str, &[usize]); 3] = [
        ("targets", &[1, 1]),
        ("input_states_1", &states),
        ("input_states_2", &states),
    ];
    for (name, dims) in inputs {
        graph
            .fix_input(name, dims)
            .ok_or_else(|| format!("it has no input {name}"))?;
    }
    simplify(graph)?;
    let mut left: Vec<Vec<String>> = Vec::new();
    let mut diagnostics = Vec::new();
    let mut done = 0;
    let next = |graph: &Graph, left: &[Vec<String>]| {
        let is_next = |node: &crate::NodeProto| node.op_type() == "LSTM" && !left.contains(&node.output);
        graph.nodes.iter().position(is_next)
    };
    while let Some(number) = next(graph, &left) {
        match unfold_lstm::decompose_lstm(graph, number, ours) {
            Ok(()) => done += 1,
            Err(reason) => {
                left.push(graph.nodes[number].output.clone());
                diagnostics.push(format!("LSTM layer {} stays as it is: {reason}", done + left.len()));
            }
        }
        simplify(graph)?;
    }
    if done == 0 {
        diagnostics.push("no layer of it is an LSTM in float32".into());
        return Err(diagnostics.swap_remove(0));
    }
    graph.clean_up();
    if ours {
        graph.import_domain(DOMAIN);
    }
    Ok(diagnostics)
}

/// Computes what is fixed, and takes out what only changes shapes back and forth.
fn simplify(graph: &mut Graph) -> Result<(), String> {
    graph.sort().ok_or("its nodes wait for each other in a circle")?;
    graph.fold();
    remove_noop_chains(graph);
    graph.remove_dead();
    Ok(())
}

/// Lets who reads a tensor read an earlier one that has the same values in the same order and shape.
fn remove_noop_chains(graph: &mut Graph) {
    let mut sources: HashMap<String, String> = HashMap::new();
    for number in 0..graph.nodes.len() {
        let node = &graph.nodes[number];
        if !graph.movement(node).is_some_and(|movement| movement.keeps_order()) {
            continue;
        }
        let (input, output) = (node.input[0].clone(), node.output[0].clone());
        sources.insert(output.clone(), input);
        let mut source = sources.get(&output);
        while let Some(name) = source {
            if graph.shape(name) == graph.shape(&output) {
                let name = name.clone();
                graph.rename_uses(&output, &name);
                break;
            }
            source = sources.get(name);
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Specializes a prediction network for one token per run, so that it reads about half of its weights.
//!
//! The time of a run is bounded by the memory bandwidth for the weights of the LSTM, W for its input and R for its
//! hidden state. The product of W and a token's embedding is the same in every run: it is precomputed as a table, of
//! which a run reads one row. R remains a matrix multiplication, and the gates become one custom operator or several
//! standard ones (`unfold_lstm.rs`). Layers after the first one are not rewritten: their input is not a token, and two
//! matrix multiplications are no faster than ONNX Runtime's LSTM.

mod layer;
#[cfg(test)]
mod tests;
mod unfold_lstm;

use std::collections::HashMap;

use crate::passes::check_supported;
use crate::{Graph, TransducerShape, ops::DOMAIN};

/// Specializes `graph`, which is in the format of [`TransducerGraphs`](crate::TransducerGraphs), for one token per run;
/// `custom_ops`: whether custom operators may be used. Returns which layers were not rewritten, and why.
///
/// # Errors
/// A sentence that says why nothing can be rewritten; `graph` must not be used then.
pub fn specialize_predictor(
    graph: &mut Graph,
    shape: &TransducerShape,
    custom_ops: bool,
) -> Result<Vec<String>, String> {
    check_supported(graph)?;
    // Two tables, and weights as floats, transposed, and as bytes.
    let bytes = usize::try_from(graph.weights())
        .unwrap_or(usize::MAX)
        .saturating_mul(3 * size_of::<f32>());
    Vec::<u8>::new()
        .try_reserve_exact(bytes.saturating_add(2 * unfold_lstm::MAX_TABLE_BYTES))
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
    let mut skipped: Vec<Vec<String>> = Vec::new();
    let mut diagnostics = Vec::new();
    let mut done = 0;
    let next = |graph: &Graph, skipped: &[Vec<String>]| {
        let is_next = |node: &crate::NodeProto| node.op_type() == "LSTM" && !skipped.contains(&node.output);
        graph.nodes.iter().position(is_next)
    };
    while let Some(number) = next(graph, &skipped) {
        match unfold_lstm::decompose_lstm(graph, number, custom_ops) {
            Ok(()) => done += 1,
            Err(reason) => {
                skipped.push(graph.nodes[number].output.clone());
                diagnostics.push(format!(
                    "LSTM layer {} is not rewritten: {reason}",
                    done + skipped.len()
                ));
            }
        }
        simplify(graph)?;
    }
    if done == 0 {
        diagnostics.push("it has no float32 LSTM layer".into());
        return Err(diagnostics.swap_remove(0));
    }
    graph.clean_up();
    if custom_ops {
        graph.import_domain(DOMAIN);
    }
    Ok(diagnostics)
}

/// Folds constants, and removes reshapes that cancel out.
fn simplify(graph: &mut Graph) -> Result<(), String> {
    graph.sort().ok_or("its nodes form a cycle")?;
    graph.fold();
    remove_noop_chains(graph);
    graph.remove_dead();
    Ok(())
}

/// Replaces uses of a tensor by an earlier tensor with the same values, order and shape.
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

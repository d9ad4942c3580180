// SPDX-License-Identifier: MIT OR Apache-2.0

//! One LSTM layer in ONNX format: <https://onnx.ai/onnx/operators/onnx__LSTM.html>.

use crate::{Graph, NodeProto, import::transducer::MAX_SIZE, ir::constant::attribute, onnx::AttributeProto};

/// A forward layer with default gates, for one step of one sequence.
pub(crate) struct Layer {
    /// Input, \[1, 1, width\].
    pub(crate) input: String,
    /// Hidden and cell state, \[1, 1, hidden\].
    pub(crate) state: [String; 2],
    /// Output \[1, 1, 1, hidden\], next hidden and cell state; empty if not used.
    pub(crate) outputs: [String; 3],
    pub(crate) width: usize,
    pub(crate) hidden: usize,
    /// Input weights: a row of `width` values per gate and unit. The gates are, in this order, input, output, forget
    /// and cell.
    pub(crate) input_weights: Vec<f32>,
    /// Recurrent weights: rows of `hidden` values.
    pub(crate) recurrent_weights: Vec<f32>,
    /// One value per gate and unit.
    pub(crate) bias: Vec<f32>,
}

impl Layer {
    /// Reads an `LSTM` node, or returns why it is not supported.
    pub(crate) fn read(graph: &Graph, node: &NodeProto) -> Result<Self, String> {
        if let Some(other) = node.attribute.iter().find(|attribute| !is_default(attribute)) {
            return Err(format!("its {} is not the default", other.name()));
        }
        let input_at = |index: usize| node.input.get(index).filter(|name| !name.is_empty());
        let state = input_at(5).zip(input_at(6)).ok_or("it has no initial state")?;
        if input_at(4).is_some() || input_at(7).is_some() {
            return Err("it has sequence lengths or peepholes".into());
        }
        let (Some(input), Some(input_weights), Some(recurrent_weights)) = (input_at(0), input_at(1), input_at(2))
        else {
            return Err("it has no weights".into());
        };
        let state = [state.0, state.1].map(String::clone);
        let (Some(&[1, 1, width]), Some(&[1, 1, hidden])) = (graph.shape(input), graph.shape(&state[0])) else {
            return Err("its input is not a single token".into());
        };
        if ![width, hidden].iter().all(|size| (1..=MAX_SIZE).contains(size)) {
            return Err(format!("its sizes are out of range: {hidden} units, {width} inputs"));
        }
        if attribute(node, "hidden_size") != Some(hidden as i64) {
            return Err(format!("its hidden_size differs from the size of its state, {hidden}"));
        }
        let rows = 4 * hidden;
        let values = |name: &str, dims: &[usize]| {
            let value = graph.value(name).filter(|value| value.dims == dims);
            let floats = value.and_then(|value| value.floats());
            floats.ok_or_else(|| format!("{name} is not a float32 constant {dims:?}"))
        };
        let bias = match input_at(3) {
            Some(name) => {
                let both = values(name, &[1, 2 * rows])?;
                let (input_weights, recurrent_weights) = both.split_at(rows);
                input_weights
                    .iter()
                    .zip(recurrent_weights)
                    .map(|(a, b)| a + b)
                    .collect()
            }
            None => vec![0.0; rows],
        };
        if graph.shape(&state[1]) != Some(&[1, 1, hidden]) {
            return Err("its cell state has another shape than its hidden state".into());
        }
        let output = |index: usize| node.output.get(index).cloned().unwrap_or_default();
        Ok(Self {
            input: input.clone(),
            input_weights: values(input_weights, &[1, rows, width])?,
            recurrent_weights: values(recurrent_weights, &[1, rows, hidden])?,
            state,
            outputs: [0, 1, 2].map(output),
            width,
            hidden,
            bias,
        })
    }
}

/// Whether an attribute of an `LSTM` has its default value.
fn is_default(attribute: &AttributeProto) -> bool {
    match attribute.name() {
        // Compared with the state in `Layer::read`.
        "hidden_size" => true,
        "direction" => attribute.s.as_deref() == Some(b"forward"),
        "input_forget" | "layout" => attribute.i() == 0,
        "activations" => attribute.strings == ["Sigmoid", "Tanh", "Tanh"],
        _ => false,
    }
}

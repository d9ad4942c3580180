// SPDX-License-Identifier: MIT OR Apache-2.0

//! One layer of an LSTM as ONNX writes it: <https://onnx.ai/onnx/operators/onnx__LSTM.html>.

use crate::ir::net::Net;
use crate::{NodeProto, import::transducer::MAX_SIZE, onnx::AttributeProto};

/// A layer that runs forward, with the usual gates, for one step of one sequence.
pub(crate) struct Layer {
    /// The tensor that it takes, \[1, 1, width\].
    pub(crate) input: String,
    /// Its state, \[1, 1, hidden\]: what it gave last, and its cells.
    pub(crate) state: [String; 2],
    /// What it gives, \[1, 1, 1, hidden\], and its next state; empty where nobody asks.
    pub(crate) outputs: [String; 3],
    pub(crate) width: usize,
    pub(crate) hidden: usize,
    /// A row of `width` values for each gate of each unit: input gates, then output and forget gates, then cells.
    pub(crate) of_input: Vec<f32>,
    /// The same of `hidden` values.
    pub(crate) of_state: Vec<f32>,
    /// One for each gate of each unit.
    pub(crate) bias: Vec<f32>,
}

impl Layer {
    /// Reads an `LSTM` node; says why not, where it is of another kind.
    pub(crate) fn read(net: &Net, node: &NodeProto) -> Result<Self, String> {
        if let Some(other) = node.attribute.iter().find(|attribute| !is_usual(attribute)) {
            return Err(format!("its {} is not the usual one", other.name()));
        }
        let given = |index: usize| node.input.get(index).filter(|name| !name.is_empty());
        let state = given(5).zip(given(6)).ok_or("it starts without a state")?;
        if given(4).is_some() || given(7).is_some() {
            return Err("its sequences have lengths, or its gates see the cells".into());
        }
        let (Some(input), Some(of_input), Some(of_state)) = (given(0), given(1), given(2)) else {
            return Err("it has no weights".into());
        };
        let state = [state.0, state.1].map(String::clone);
        let (Some(&[1, 1, width]), Some(&[1, 1, hidden])) = (net.shape(input), net.shape(&state[0])) else {
            return Err("its input is of another shape than one label's".into());
        };
        if ![width, hidden].iter().all(|size| (1..=MAX_SIZE).contains(size)) {
            return Err(format!("it makes {hidden} values of {width}"));
        }
        let rows = 4 * hidden;
        let values = |name: &str, dims: &[usize]| {
            let value = net.value(name).filter(|value| value.dims == dims);
            let floats = value.and_then(|value| value.floats());
            floats.ok_or_else(|| format!("{name} is no float32 constant {dims:?}"))
        };
        let bias = match given(3) {
            Some(name) => {
                let both = values(name, &[1, 2 * rows])?;
                let (of_input, of_state) = both.split_at(rows);
                of_input.iter().zip(of_state).map(|(a, b)| a + b).collect()
            }
            None => vec![0.0; rows],
        };
        if net.shape(&state[1]) != Some(&[1, 1, hidden]) {
            return Err("its cells are of another shape than its state".into());
        }
        let output = |index: usize| node.output.get(index).cloned().unwrap_or_default();
        Ok(Self {
            input: input.clone(),
            of_input: values(of_input, &[1, rows, width])?,
            of_state: values(of_state, &[1, rows, hidden])?,
            state,
            outputs: [0, 1, 2].map(output),
            width,
            hidden,
            bias,
        })
    }
}

/// Whether an attribute of an `LSTM` has the value that it has where it is not given.
fn is_usual(attribute: &AttributeProto) -> bool {
    match attribute.name() {
        // The shapes of the weights say the same.
        "hidden_size" => true,
        "direction" => attribute.s.as_deref() == Some(b"forward"),
        "input_forget" | "layout" => attribute.i() == 0,
        "activations" => attribute.strings == ["Sigmoid", "Tanh", "Tanh"],
        _ => false,
    }
}

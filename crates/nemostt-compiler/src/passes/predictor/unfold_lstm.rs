// SPDX-License-Identifier: MIT OR Apache-2.0

//! Decomposes an LSTM layer into single operators.

use crate::{
    Graph,
    onnx::tensor_proto::DataType,
    ops::{DOMAIN, LSTM_CELL, WIDTH},
};
use crate::{
    ir::{
        attribute::Attribute,
        constant::{Constant, attribute},
    },
    passes::predictor::layer::Layer,
};
use nemostt_kernels::gemm::{Epilogue, GemmSpec, PackedWeights};

/// Maximum bytes of a table. A larger one would not be worth its memory: for 1024 tokens of the 114M model it has 10
/// MB.
pub(crate) const MAX_TABLE_BYTES: usize = 64 << 20;

/// Replaces `LSTM` node `number`, whose input is a token's embedding, by single operators, or returns why that is not
/// possible. The nodes must be sorted afterwards. `custom_ops`: whether custom operators may be used.
pub(crate) fn decompose_lstm(graph: &mut Graph, number: usize, custom_ops: bool) -> Result<(), String> {
    let layer = Layer::read(graph, &graph.nodes[number])?;
    let token = match_embedding(graph, &layer).ok_or("its input is not a token's embedding")?;
    let table = graph.add_value(&token.table(&layer)?);
    let from_token = graph.add("Gather", &[&table, &token.index], &[("axis", Attribute::Int(0))]);
    graph.nodes.remove(number);

    let recurrent_weights = transposed(&layer.recurrent_weights, layer.hidden);
    let recurrent_weights = graph.add_value(&recurrent_weights);
    let from_state = graph.add("MatMul", &[&layer.state[0], &recurrent_weights], &[]);
    let [sequence, next, next_cells] = &layer.outputs;
    let [next, next_cells] = [next, next_cells].map(|name| match name.as_str() {
        "" => graph.new_name("state"),
        name => name.into(),
    });
    let pre_activations = [from_token, from_state];
    match custom_ops {
        true => add_lstm_cell(graph, &layer, &pre_activations, [&next, &next_cells]),
        false => add_gates(graph, &layer, &pre_activations, [&next, &next_cells]),
    }
    if !sequence.is_empty() {
        let axes = graph.add_ints(&[1]);
        graph.add_as(sequence, "Unsqueeze", &[&next, &axes], &[]);
    }
    Ok(())
}

/// Computes next hidden and cell state from the gates' pre-activations, with standard operators.
fn add_gates(graph: &mut Graph, layer: &Layer, pre_activations: &[String; 2], [next, next_cells]: [&String; 2]) {
    let hidden = layer.hidden as i64;
    let pre_activations = graph.add("Add", &[&pre_activations[0], &pre_activations[1]], &[]);
    // ONNX's order: input, output, forget, cell.
    let [gates, cells] = split(graph, &pre_activations, [3 * hidden, hidden]);
    let gates = graph.add("Sigmoid", &[&gates], &[]);
    let [input, output, forget] = split(graph, &gates, [hidden; 3]);
    let cells = graph.add("Tanh", &[&cells], &[]);
    let retained = graph.add("Mul", &[&forget, &layer.state[1]], &[]);
    let new = graph.add("Mul", &[&input, &cells], &[]);
    graph.add_as(next_cells, "Add", &[&retained, &new], &[]);
    let hidden_activation = graph.add("Tanh", &[next_cells], &[]);
    graph.add_as(next, "Mul", &[&output, &hidden_activation], &[]);
}

/// As [`add_gates`], with the custom operator.
fn add_lstm_cell(graph: &mut Graph, layer: &Layer, pre_activations: &[String; 2], next: [&String; 2]) {
    let outputs = next.map(String::clone);
    graph.add_node(
        &outputs,
        LSTM_CELL.name,
        &[&pre_activations[0], &pre_activations[1], &layer.state[1]],
        &[(WIDTH, Attribute::Int(layer.hidden as i64))],
    );
    if let Some(node) = graph.nodes.last_mut() {
        node.domain = Some(DOMAIN.into());
    }
    // Shape inference does not know the custom operator.
    for output in outputs {
        graph.shapes.insert(output, vec![1, 1, layer.hidden]);
    }
}

/// A layer input that is a token's embedding.
struct EmbeddingInput {
    /// The token's id, \[1, 1\].
    index: String,
    /// Embeddings, \[tokens, width\].
    embeddings: Vec<f32>,
    tokens: usize,
}

/// The token whose embedding is the input of `layer`, if it is one.
fn match_embedding(graph: &Graph, layer: &Layer) -> Option<EmbeddingInput> {
    let index = graph.index();
    let gather = &graph.nodes[index.producer(&layer.input)?];
    let ("Gather", [table, token]) = (gather.op_type(), &gather.input[..]) else {
        return None;
    };
    let table = graph.value(table)?;
    let &[tokens, width] = &table.dims[..] else {
        return None;
    };
    let is_row = attribute(gather, "axis").unwrap_or(0) == 0 && width == layer.width;
    // Both integer types can be used without a cast.
    let wider = index.producer(token).map(|producer| &graph.nodes[producer]);
    let wider = wider.filter(|node| node.op_type() == "Cast" && node.input[0] == "targets");
    let is_integer = wider.is_some_and(|cast| attribute(cast, "to") == Some(DataType::Int64 as i64));
    Some(EmbeddingInput {
        index: if is_integer { "targets".into() } else { token.clone() },
        embeddings: table.floats().filter(|_| is_row)?,
        tokens,
    })
}

impl EmbeddingInput {
    /// The gates' pre-activations for each token, \[tokens, 4 · hidden\].
    fn table(&self, layer: &Layer) -> Result<Constant, String> {
        let n = layer.bias.len();
        let bytes = self.tokens.saturating_mul(n).saturating_mul(size_of::<f32>());
        if bytes > MAX_TABLE_BYTES {
            return Err(format!("its table would take {} MB", bytes >> 20));
        }
        if !PackedWeights::supports_k(layer.width) {
            return Err(format!("its embeddings have {} values", layer.width));
        }
        let fill = |row: usize, column: usize, dst: &mut [f32]| {
            for (value, values) in dst
                .iter_mut()
                .zip(layer.input_weights.chunks_exact(layer.width).skip(column))
            {
                *value = values[row];
            }
        };
        let spec = GemmSpec {
            k: layer.width,
            n,
            bias: Some(layer.bias.clone()),
            epilogue: Epilogue::Identity,
        };
        let weights = PackedWeights::new(spec, fill).map_err(|error| error.to_string())?;
        let mut table = vec![0.0; self.tokens * n];
        weights.multiply(&self.embeddings, None, &mut table);
        Ok(Constant::from_floats(vec![self.tokens, n], &table))
    }
}

/// Transposes `values`, rows of `width` values.
fn transposed(values: &[f32], width: usize) -> Constant {
    let column = |column: usize| values.iter().skip(column).step_by(width).copied();
    let transposed: Vec<f32> = (0..width).flat_map(column).collect();
    Constant::from_floats(vec![width, values.len() / width], &transposed)
}

/// Splits `tensor` along its last axis.
fn split<const PARTS: usize>(graph: &mut Graph, tensor: &str, sizes: [i64; PARTS]) -> [String; PARTS] {
    let outputs = [(); PARTS].map(|()| graph.new_name("part"));
    let sizes = graph.add_ints(&sizes);
    graph.add_node(&outputs, "Split", &[tensor, &sizes], &[("axis", Attribute::Int(-1))]);
    outputs
}

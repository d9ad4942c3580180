// SPDX-License-Identifier: MIT OR Apache-2.0

//! A layer of an LSTM as single operations.

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

/// Bytes of the largest table of labels. Beyond, it would take more memory than it saves time: 1024 labels of the 114M
/// model are 10 MB.
pub(crate) const MAX_TABLE_BYTES: usize = 64 << 20;

/// Puts single operations in the place of `LSTM` node `number`, which takes the embedding of a label; says why not, where
/// it is of another kind. The nodes must be sorted anew. `ours`: whether one of our own may be among them.
pub(crate) fn decompose_lstm(graph: &mut Graph, number: usize, ours: bool) -> Result<(), String> {
    let layer = Layer::read(graph, &graph.nodes[number])?;
    let label = match_embedding(graph, &layer).ok_or("its input is no label's embedding")?;
    let table = graph.add_value(&label.table(&layer)?);
    let from_label = graph.add("Gather", &[&table, &label.index], &[("axis", Attribute::Int(0))]);
    graph.nodes.remove(number);

    let of_state = transposed(&layer.of_state, layer.hidden);
    let of_state = graph.add_value(&of_state);
    let from_state = graph.add("MatMul", &[&layer.state[0], &of_state], &[]);
    let [sequence, next, next_cells] = &layer.outputs;
    let [next, next_cells] = [next, next_cells].map(|name| match name.as_str() {
        "" => graph.new_name("state"),
        name => name.into(),
    });
    let sums = [from_label, from_state];
    match ours {
        true => add_lstm_cell(graph, &layer, &sums, [&next, &next_cells]),
        false => add_gates(graph, &layer, &sums, [&next, &next_cells]),
    }
    if !sequence.is_empty() {
        let axes = graph.add_ints(&[1]);
        graph.add_as(sequence, "Unsqueeze", &[&next, &axes], &[]);
    }
    Ok(())
}

/// Makes the next state and the next cells of what label and state give the gates.
fn add_gates(graph: &mut Graph, layer: &Layer, sums: &[String; 2], [next, next_cells]: [&String; 2]) {
    let hidden = layer.hidden as i64;
    let sums = graph.add("Add", &[&sums[0], &sums[1]], &[]);
    // ONNX's order: input, output and forget gates, then what goes into the cells.
    let [gates, cells] = split(graph, &sums, [3 * hidden, hidden]);
    let gates = graph.add("Sigmoid", &[&gates], &[]);
    let [input, output, forget] = split(graph, &gates, [hidden; 3]);
    let cells = graph.add("Tanh", &[&cells], &[]);
    let kept = graph.add("Mul", &[&forget, &layer.state[1]], &[]);
    let new = graph.add("Mul", &[&input, &cells], &[]);
    graph.add_as(next_cells, "Add", &[&kept, &new], &[]);
    let given = graph.add("Tanh", &[next_cells], &[]);
    graph.add_as(next, "Mul", &[&output, &given], &[]);
}

/// As [`gate`], with one operation of ours.
fn add_lstm_cell(graph: &mut Graph, layer: &Layer, sums: &[String; 2], next: [&String; 2]) {
    let outputs = next.map(String::clone);
    graph.add_node(
        &outputs,
        LSTM_CELL.name,
        &[&sums[0], &sums[1], &layer.state[1]],
        &[(WIDTH, Attribute::Int(layer.hidden as i64))],
    );
    if let Some(node) = graph.nodes.last_mut() {
        node.domain = Some(DOMAIN.into());
    }
    // Nobody else knows of what size its outputs are.
    for output in outputs {
        graph.shapes.insert(output, vec![1, 1, layer.hidden]);
    }
}

/// Where a layer takes the embedding of a label.
struct EmbeddingInput {
    /// The label's number, \[1, 1\].
    index: String,
    /// A row for each label.
    embeddings: Vec<f32>,
    labels: usize,
}

/// The label whose embedding `layer` takes, if it does.
fn match_embedding(graph: &Graph, layer: &Layer) -> Option<EmbeddingInput> {
    let index = graph.index();
    let gather = &graph.nodes[index.producer(&layer.input)?];
    let ("Gather", [table, label]) = (gather.op_type(), &gather.input[..]) else {
        return None;
    };
    let table = graph.value(table)?;
    let &[labels, width] = &table.dims[..] else {
        return None;
    };
    let is_row = attribute(gather, "axis").unwrap_or(0) == 0 && width == layer.width;
    // Both widths of integers serve as they are.
    let wider = index.producer(label).map(|producer| &graph.nodes[producer]);
    let wider = wider.filter(|node| node.op_type() == "Cast" && node.input[0] == "targets");
    let is_integer = wider.is_some_and(|cast| attribute(cast, "to") == Some(DataType::Int64 as i64));
    Some(EmbeddingInput {
        index: if is_integer { "targets".into() } else { label.clone() },
        embeddings: table.floats().filter(|_| is_row)?,
        labels,
    })
}

impl EmbeddingInput {
    /// What the layer's gates get from each label, \[labels, 4 · hidden\].
    fn table(&self, layer: &Layer) -> Result<Constant, String> {
        let columns = layer.bias.len();
        let bytes = self.labels.saturating_mul(columns).saturating_mul(size_of::<f32>());
        if bytes > MAX_TABLE_BYTES {
            return Err(format!(
                "what its labels add to the gates would take {} MB",
                bytes >> 20
            ));
        }
        if !PackedWeights::supports_k(layer.width) {
            return Err(format!("its embeddings have {} values", layer.width));
        }
        let fill = |row: usize, column: usize, room: &mut [f32]| {
            for (slot, values) in room
                .iter_mut()
                .zip(layer.of_input.chunks_exact(layer.width).skip(column))
            {
                *slot = values[row];
            }
        };
        let kind = GemmSpec {
            k: layer.width,
            n: columns,
            bias: Some(layer.bias.clone()),
            epilogue: Epilogue::Identity,
        };
        let weights = PackedWeights::new(kind, fill).map_err(|error| error.to_string())?;
        let mut table = vec![0.0; self.labels * columns];
        weights.multiply_single_threaded(&self.embeddings, &mut table);
        Ok(Constant::from_floats(vec![self.labels, columns], &table))
    }
}

/// `values`, which come in rows of `width`, with a column for each row.
fn transposed(values: &[f32], width: usize) -> Constant {
    let column = |column: usize| values.iter().skip(column).step_by(width).copied();
    let transposed: Vec<f32> = (0..width).flat_map(column).collect();
    Constant::from_floats(vec![width, values.len() / width], &transposed)
}

/// Cuts `tensor` along its last axis.
fn split<const PARTS: usize>(graph: &mut Graph, tensor: &str, sizes: [i64; PARTS]) -> [String; PARTS] {
    let outputs = [(); PARTS].map(|()| graph.new_name("part"));
    let sizes = graph.add_ints(&sizes);
    graph.add_node(&outputs, "Split", &[tensor, &sizes], &[("axis", Attribute::Int(-1))]);
    outputs
}

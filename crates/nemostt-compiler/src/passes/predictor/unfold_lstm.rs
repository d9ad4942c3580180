// SPDX-License-Identifier: MIT OR Apache-2.0

//! A layer of an LSTM as single operations.

use crate::{WIDTH, fusions::prepack_matmul::DOMAIN, onnx::tensor_proto::DataType};
use crate::{
    ir::{
        constant::{Constant, attribute},
        net::{Attribute, Net},
    },
    passes::predictor::layer::Layer,
};
use nemostt_kernels::gemm::{Epilogue, GemmSpec, PackedWeights};

/// The operation. Inputs: what the label and what the state give the gates \[…, 4 · hidden\], in ONNX's order of gates; the
/// cells \[…, hidden\]. Outputs: next state and cells, as large as the cells. Attribute [`WIDTH`]: `hidden`.
pub const LSTM_CELL: &str = "LstmCell";

/// Bytes of the largest table of labels. Beyond, it would take more memory than it saves time: 1024 labels of the 114M
/// model are 10 MB.
pub(crate) const MAX_TABLE_BYTES: usize = 64 << 20;

/// Puts single operations in the place of `LSTM` node `number`, which takes the embedding of a label; says why not, where
/// it is of another kind. The nodes must be sorted anew. `ours`: whether one of our own may be among them.
pub(crate) fn decompose_lstm(net: &mut Net, number: usize, ours: bool) -> Result<(), String> {
    let layer = Layer::read(net, &net.nodes[number])?;
    let label = match_embedding(net, &layer).ok_or("its input is no label's embedding")?;
    let table = net.add_value(&label.table(&layer)?);
    let from_label = net.add("Gather", &[&table, &label.index], &[("axis", Attribute::Int(0))]);
    net.nodes.remove(number);

    let of_state = transposed(&layer.of_state, layer.hidden);
    let of_state = net.add_value(&of_state);
    let from_state = net.add("MatMul", &[&layer.state[0], &of_state], &[]);
    let [sequence, next, next_cells] = &layer.outputs;
    let [next, next_cells] = [next, next_cells].map(|name| match name.as_str() {
        "" => net.new_name("state"),
        name => name.into(),
    });
    let sums = [from_label, from_state];
    match ours {
        true => add_lstm_cell(net, &layer, &sums, [&next, &next_cells]),
        false => add_gates(net, &layer, &sums, [&next, &next_cells]),
    }
    if !sequence.is_empty() {
        let axes = net.add_ints(&[1]);
        net.add_as(sequence, "Unsqueeze", &[&next, &axes], &[]);
    }
    Ok(())
}

/// Makes the next state and the next cells of what label and state give the gates.
fn add_gates(net: &mut Net, layer: &Layer, sums: &[String; 2], [next, next_cells]: [&String; 2]) {
    let hidden = layer.hidden as i64;
    let sums = net.add("Add", &[&sums[0], &sums[1]], &[]);
    // ONNX's order: input, output and forget gates, then what goes into the cells.
    let [gates, cells] = split(net, &sums, [3 * hidden, hidden]);
    let gates = net.add("Sigmoid", &[&gates], &[]);
    let [input, output, forget] = split(net, &gates, [hidden; 3]);
    let cells = net.add("Tanh", &[&cells], &[]);
    let kept = net.add("Mul", &[&forget, &layer.state[1]], &[]);
    let new = net.add("Mul", &[&input, &cells], &[]);
    net.add_as(next_cells, "Add", &[&kept, &new], &[]);
    let given = net.add("Tanh", &[next_cells], &[]);
    net.add_as(next, "Mul", &[&output, &given], &[]);
}

/// As [`gate`], with one operation of ours.
fn add_lstm_cell(net: &mut Net, layer: &Layer, sums: &[String; 2], next: [&String; 2]) {
    let outputs = next.map(String::clone);
    net.add_node(
        &outputs,
        LSTM_CELL,
        &[&sums[0], &sums[1], &layer.state[1]],
        &[(WIDTH, Attribute::Int(layer.hidden as i64))],
    );
    if let Some(node) = net.nodes.last_mut() {
        node.domain = Some(DOMAIN.into());
    }
    // Nobody else knows of what size its outputs are.
    for output in outputs {
        net.shapes.insert(output, vec![1, 1, layer.hidden]);
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
fn match_embedding(net: &Net, layer: &Layer) -> Option<EmbeddingInput> {
    let index = net.index();
    let gather = &net.nodes[index.producer(&layer.input)?];
    let ("Gather", [table, label]) = (gather.op_type(), &gather.input[..]) else {
        return None;
    };
    let table = net.value(table)?;
    let &[labels, width] = &table.dims[..] else {
        return None;
    };
    let is_row = attribute(gather, "axis").unwrap_or(0) == 0 && width == layer.width;
    // Both widths of integers serve as they are.
    let wider = index.producer(label).map(|producer| &net.nodes[producer]);
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
fn split<const PARTS: usize>(net: &mut Net, tensor: &str, sizes: [i64; PARTS]) -> [String; PARTS] {
    let outputs = [(); PARTS].map(|()| net.new_name("part"));
    let sizes = net.add_ints(&sizes);
    net.add_node(&outputs, "Split", &[tensor, &sizes], &[("axis", Attribute::Int(-1))]);
    outputs
}

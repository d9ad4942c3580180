// SPDX-License-Identifier: MIT OR Apache-2.0

//! Matrix products of an fp32 encoder in 8 bits: a step then reads a quarter of the bytes.
//!
//! Weights become whole numbers with one scale for each output channel, symmetric around zero. What they are multiplied
//! with is scaled to 0..255 anew at each step (`DynamicQuantizeLinear`), so no recordings are needed to find ranges.
//! `MatMulIntegerToFloat` multiplies, sums in 32 bits, scales back and adds the bias in one pass: of the ways that ONNX
//! Runtime 1.31.1 has, the fastest with `DynamicQuantizeMatMul`, and several products can share one quantised input.
//!
//! Only products between the first and the last normalisation become 8 bits. Before them lies the subsampling, whose
//! values are few and far apart; behind them the CTC head, which decides. Both are small, and stay as they are.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use bytes::Bytes;

use super::{
    FileBytes, Graph, LAYER_NORM, NodeProto, TensorProto,
    match_matmul::{MatMulMatch, read_floats},
    onnx::tensor_proto::DataType,
};

/// The domain of ONNX Runtime's own operations.
const DOMAIN: &str = "com.microsoft";

/// Largest number that a weight becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bits {
    /// ±64. Processors without instructions for products of 8 bits add two of them in 16 bits, which must not overflow:
    /// 2 · 255 · 64 < 2^15.
    Seven,
    /// ±127.
    Eight,
}

impl Bits {
    /// The most that this processor multiplies without overflow.
    // Clippy would simplify what the macro expands to.
    #[allow(clippy::nonminimal_bool)]
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx512vnni") || std::arch::is_x86_feature_detected!("avxvnni") {
            return Self::Eight;
        }
        Self::Seven
    }

    fn largest(self) -> f32 {
        match self {
            Self::Seven => 64.0,
            Self::Eight => 127.0,
        }
    }
}

impl Graph {
    /// Makes 8-bit products of those with constant weights between the first and the last normalisation, and gives their
    /// number.
    pub fn quantize(&mut self, bits: Bits) -> usize {
        let found = self.layer_matmuls();
        if found.is_empty() {
            return 0;
        }
        let mut narrow = QuantizedWeights::default();
        for (_, product) in &found {
            if !narrow.places.contains_key(&product.weight) {
                let weight = self.graph.initializer.iter().find(|w| w.name() == product.weight);
                if let Some(values) = weight.and_then(|weight| weight.raw_data.as_deref()) {
                    narrow.add(&product.weight, values, product.columns, product.turned, bits);
                }
            }
        }
        let file: FileBytes = narrow.bytes.into();
        let all = Bytes::from_owner(file.clone());
        self.files.push(file);

        let mut products: HashMap<usize, MatMulMatch> = found.into_iter().collect();
        let count = products.len();
        let mut nodes = Vec::with_capacity(self.graph.node.len() + count);
        let mut inputs = HashSet::new();
        for (number, node) in std::mem::take(&mut self.graph.node).into_iter().enumerate() {
            let Some(product) = products.remove(&number) else {
                nodes.push(node);
                continue;
            };
            if inputs.insert(product.data.clone()) {
                nodes.push(quantize_node(&product.data));
            }
            nodes.push(product_node(&product, &node));
            self.add_scale_and_bias(&product, &narrow.scales[&product.weight]);
        }
        self.graph.node = nodes;
        // In place: a weight that something else reads, too, stays beside its copy.
        self.remove_unused_initializers();
        for (name, (place, dims)) in narrow.places {
            self.graph.initializer.push(TensorProto {
                name: Some(int8(&name)),
                dims: dims.map(|size| size as i64).to_vec(),
                data_type: Some(DataType::Int8 as i32),
                raw_data: Some(all.slice(place)),
                ..Default::default()
            });
        }
        self.graph.initializer.sort_by(|a, b| a.name().cmp(b.name()));
        self.import_domain(DOMAIN);
        count
    }

    /// The products that are to be quantised, with the index of their node.
    fn layer_matmuls(&self) -> Vec<(usize, MatMulMatch)> {
        let norms: Vec<&NodeProto> = self.nodes().iter().filter(|node| is_norm(node)).collect();
        let normed: Vec<String> = norms.iter().flat_map(|node| &node.output).cloned().collect();
        let to_norm: Vec<String> = norms.iter().flat_map(|node| &node.input).cloned().collect();
        let (after, before) = (self.downstream(&normed), self.upstream(&to_norm));
        let mut found = self.match_matmuls();
        found.retain(|(_, product)| after.contains(product.data.as_str()) && before.contains(product.output.as_str()));
        found
    }

    /// Adds what `product` multiplies its sums by and what it adds to them.
    fn add_scale_and_bias(&mut self, product: &MatMulMatch, scales: &[f32]) {
        let name = product.scales();
        if !self.graph.initializer.iter().any(|weight| weight.name() == name) {
            let scales = scales.iter().map(|scale| scale * product.scale);
            self.graph.initializer.push(floats(&name, scales));
        }
        if let Some((name, values)) = product.scaled_bias()
            && !self.graph.initializer.iter().any(|weight| weight.name() == name)
        {
            self.graph.initializer.push(floats(&name, values.into_iter()));
        }
    }
}

impl MatMulMatch {
    fn scales(&self) -> String {
        format!("{}/scales_{}", self.weight, self.scale)
    }

    fn scaled_bias(&self) -> Option<(String, Vec<f32>)> {
        let (name, values) = self.bias.as_ref()?;
        let values = values.iter().map(|value| value * self.scale).collect();
        Some((format!("{name}/scaled_{}", self.scale), values))
    }
}

/// Whether a node begins or is a layer normalisation. Exports of opset 16 and before write it as a mean and what follows.
fn is_norm(node: &NodeProto) -> bool {
    matches!(node.op_type(), "LayerNormalization" | LAYER_NORM | "ReduceMean")
}

/// Weights in 8 bits, one after the other, so that they can be handed over like those of a file.
#[derive(Default)]
struct QuantizedWeights {
    bytes: Vec<u8>,
    /// Where each lies in `bytes`, and its rows and columns.
    places: HashMap<String, (Range<usize>, [usize; 2])>,
    scales: HashMap<String, Vec<f32>>,
}

impl QuantizedWeights {
    /// Adds a weight, with a column for each output however it is given.
    fn add(&mut self, name: &str, values: &[u8], columns: usize, turned: bool, bits: Bits) {
        let rows = values.len() / (4 * columns);
        let mut largest = vec![0.0_f32; columns];
        if turned {
            for (largest, column) in largest.iter_mut().zip(values.chunks_exact(4 * rows)) {
                *largest = read_floats(column).fold(0.0, |most, value| most.max(value.abs()));
            }
        } else {
            for row in values.chunks_exact(4 * columns) {
                for (largest, value) in largest.iter_mut().zip(read_floats(row)) {
                    *largest = largest.max(value.abs());
                }
            }
        }
        // A column of zeros has any scale.
        let some = |largest: &f32| if *largest > 0.0 { *largest } else { 1.0 };
        let inverse: Vec<f32> = largest.iter().map(|most| bits.largest() / some(most)).collect();
        let narrow = |value: f32, inverse: &f32| (value * inverse).round() as i8 as u8;
        let start = self.bytes.len();
        if turned {
            self.bytes.resize(start + rows * columns, 0);
            let table = &mut self.bytes[start..];
            for (column, (values, inverse)) in values.chunks_exact(4 * rows).zip(&inverse).enumerate() {
                for (row, value) in read_floats(values).enumerate() {
                    table[row * columns + column] = narrow(value, inverse);
                }
            }
        } else {
            for row in values.chunks_exact(4 * columns) {
                let values = read_floats(row).zip(&inverse);
                self.bytes.extend(values.map(|(value, inverse)| narrow(value, inverse)));
            }
        }
        self.places
            .insert(name.into(), (start..self.bytes.len(), [rows, columns]));
        let scales = largest.iter().map(|most| some(most) / bits.largest()).collect();
        self.scales.insert(name.into(), scales);
    }
}

fn floats(name: &str, values: impl ExactSizeIterator<Item = f32>) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: vec![values.len() as i64],
        data_type: Some(DataType::Float as i32),
        raw_data: Some(values.flat_map(f32::to_le_bytes).collect()),
        ..Default::default()
    }
}

fn int8(weight: &str) -> String {
    format!("{weight}/int8")
}

/// Names of the three tensors that `data` becomes: values, scale and the value that stands for zero.
fn quantized_names(data: &str) -> [String; 3] {
    ["values", "scale", "zero"].map(|part| format!("{data}/uint8_{part}"))
}

fn quantize_node(data: &str) -> NodeProto {
    NodeProto {
        op_type: Some("DynamicQuantizeLinear".into()),
        name: Some(format!("{data}/uint8")),
        input: vec![data.into()],
        output: quantized_names(data).into(),
        ..Default::default()
    }
}

fn product_node(product: &MatMulMatch, old: &NodeProto) -> NodeProto {
    let [values, scale, zero] = quantized_names(&product.data);
    let mut input = vec![values, int8(&product.weight), scale, product.scales(), zero];
    if let Some((bias, _)) = product.scaled_bias() {
        // In between: what stands for zero in the weights, which is zero.
        input.extend([String::new(), bias]);
    }
    NodeProto {
        op_type: Some("MatMulIntegerToFloat".into()),
        domain: Some(DOMAIN.into()),
        name: old.name.clone(),
        input,
        output: old.output.clone(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Precision, StreamingConfig, graph_in, specialize};

    #[test]
    fn columns_are_scaled_to_what_the_processor_can_multiply() {
        let values: Vec<u8> = [1.0_f32, -0.5, 0.0, -2.0, 0.25, 0.0]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        for (bits, expected) in [
            (Bits::Seven, [32_i8, -64, 0, -64, 32, 0]),
            (Bits::Eight, [64, -127, 0, -127, 64, 0]),
        ] {
            let mut narrow = QuantizedWeights::default();
            narrow.add("w", &values, 3, false, bits);
            // The same with a row for each output.
            let turned: Vec<u8> = [0, 3, 1, 4, 2, 5]
                .iter()
                .flat_map(|i| &values[4 * i..][..4])
                .copied()
                .collect();
            narrow.add("turned", &turned, 3, true, bits);
            assert_eq!(narrow.bytes[..6], narrow.bytes[6..]);
            assert_eq!(narrow.scales["w"], narrow.scales["turned"]);
            assert_eq!(narrow.places["turned"].1, [2, 3]);
            let found: Vec<i8> = narrow.bytes[..6].iter().map(|&byte| byte as i8).collect();
            assert_eq!(found, expected);
            assert_eq!(
                narrow.scales["w"],
                [2.0 / bits.largest(), 0.5 / bits.largest(), 1.0 / bits.largest()]
            );
        }
    }

    /// A planned export with its numbers.
    fn planned(path: &str) -> (Graph, StreamingConfig) {
        let mut graph = graph_in(path);
        let streaming = StreamingConfig::read(&graph).unwrap();
        specialize(&mut graph, &streaming, 1).unwrap();
        (graph, streaming)
    }

    fn count(graph: &Graph, operation: &str) -> usize {
        graph.operations().filter(|&found| found == operation).count()
    }

    #[test]
    fn every_layer_is_quantized_and_nothing_around_them() {
        for path in [
            "../nemostt/assets/demo-model/encoder-model.onnx",
            "../nemostt/assets/demo-model/ctc.onnx",
        ] {
            let (mut graph, streaming) = planned(path);
            let convolutions = count(&graph, "Conv");
            let products = count(&graph, "Gemm") + count(&graph, "MatMul");
            // Four of the two feed-forward blocks, four of attention, two pointwise convolutions.
            assert_eq!(graph.quantize(Bits::Eight), 10 * streaming.layers, "{path}");
            assert_eq!(count(&graph, "Conv"), convolutions);
            let left = count(&graph, "Gemm") + count(&graph, "MatMul");
            assert_eq!(left, products - 10 * streaming.layers);
            // Queries, keys and values share one input.
            assert_eq!(count(&graph, "DynamicQuantizeLinear"), 8 * streaming.layers);
            assert_eq!(graph.precision(), Precision::Int8);
            assert_eq!(graph.quantize(Bits::Eight), 0);
        }
    }

    #[test]
    fn weights_stay_out_of_the_encoded_graph() {
        let (mut graph, _) = planned("../nemostt/assets/demo-model/encoder-model.onnx");
        let before = graph.clone().encode();
        graph.quantize(Bits::Seven);
        let after = graph.encode();
        assert!(
            after.weights * 2 < before.weights,
            "{} and {}",
            after.weights,
            before.weights
        );
        assert!(after.model.len() < before.model.len() * 2);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Quantizes matrix multiplications of an fp32 encoder to int8, so that a step reads a quarter of the bytes.
//!
//! Weights are quantized symmetrically, with one scale per output channel. Activations are quantized to 0..255 in each
//! step (`DynamicQuantizeLinear`), so that no calibration data is needed. `MatMulIntegerToFloat` multiplies,
//! accumulates in int32, dequantizes and adds the bias in one operator: with `DynamicQuantizeMatMul` the fastest of the
//! options in ONNX Runtime 1.31.1, and several matrix multiplications can share one quantized input.
//!
//! Only matrix multiplications between the first and the last normalization are quantized. Before them is the
//! subsampling, which has few values with a wide range, and after them the CTC head, which decides on the tokens. Both
//! are small.

use crate::ops::LAYER_NORM;
use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use bytes::Bytes;

use crate::{
    FileBytes, Graph, NodeProto, TensorProto,
    fusions::match_matmul::{MatMulMatch, read_floats},
    onnx::tensor_proto::DataType,
};

/// Domain of ONNX Runtime's contrib operators.
const DOMAIN: &str = "com.microsoft";

/// Range of quantized weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bits {
    /// ±64. Processors without int8 dot product instructions add two products in 16 bits, which must not overflow: 2 ·
    /// 255 · 64 < 2^15.
    Seven,
    /// ±127.
    Eight,
}

impl Bits {
    /// The largest range that this processor multiplies without overflow.
    // Clippy would simplify the macro's expansion.
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
    /// Quantizes matrix multiplications with constant weights between the first and the last normalization; returns
    /// their number.
    pub fn quantize(&mut self, bits: Bits) -> usize {
        let found = self.layer_matmuls();
        if found.is_empty() {
            return 0;
        }
        let mut quantized = QuantizedWeights::default();
        for (_, matmul) in &found {
            if !quantized.ranges.contains_key(&matmul.weight) {
                let weight = self.initializers.iter().find(|w| w.name() == matmul.weight);
                if let Some(values) = weight.and_then(|weight| weight.raw_data.as_deref()) {
                    quantized.add(&matmul.weight, values, matmul.n, matmul.transposed, bits);
                }
            }
        }
        let file: FileBytes = quantized.bytes.into();
        let all = Bytes::from_owner(file.clone());
        self.files.push(file);

        let mut matmuls: HashMap<usize, MatMulMatch> = found.into_iter().collect();
        let count = matmuls.len();
        let mut nodes = Vec::with_capacity(self.nodes.len() + count);
        let mut inputs = HashSet::new();
        for (number, node) in std::mem::take(&mut self.nodes).into_iter().enumerate() {
            let Some(matmul) = matmuls.remove(&number) else {
                nodes.push(node);
                continue;
            };
            if inputs.insert(matmul.data.clone()) {
                nodes.push(quantize_node(&matmul.data));
            }
            nodes.push(matmul_node(&matmul, &node));
            self.add_scale_and_bias(&matmul, &quantized.scales[&matmul.weight]);
        }
        self.nodes = nodes;
        // Quantized in place: a weight that has other consumers remains, too.
        self.remove_unused_initializers();
        for (name, (range, dims)) in quantized.ranges {
            self.initializers.insert(TensorProto {
                name: Some(int8(&name)),
                dims: dims.map(|size| size as i64).to_vec(),
                data_type: Some(DataType::Int8 as i32),
                raw_data: Some(all.slice(range)),
                ..Default::default()
            });
        }
        self.initializers.sort_by_name();
        self.import_domain(DOMAIN);
        count
    }

    /// The matrix multiplications to quantize, with the indices of their nodes.
    fn layer_matmuls(&self) -> Vec<(usize, MatMulMatch)> {
        let norms: Vec<&NodeProto> = self.nodes.iter().filter(|node| is_norm(node)).collect();
        let normed: Vec<String> = norms.iter().flat_map(|node| &node.output).cloned().collect();
        let to_norm: Vec<String> = norms.iter().flat_map(|node| &node.input).cloned().collect();
        let (after, before) = (self.downstream(&normed), self.upstream(&to_norm));
        let mut found = self.match_matmuls();
        found.retain(|(_, matmul)| after.contains(matmul.data.as_str()) && before.contains(matmul.output.as_str()));
        found
    }

    /// Adds the scales and the bias of `matmul`.
    fn add_scale_and_bias(&mut self, matmul: &MatMulMatch, scales: &[f32]) {
        let name = matmul.scales();
        if !self.initializers.iter().any(|weight| weight.name() == name) {
            let scales = scales.iter().map(|scale| scale * matmul.scale);
            self.initializers.insert(floats(&name, scales));
        }
        if let Some((name, values)) = matmul.scaled_bias()
            && !self.initializers.iter().any(|weight| weight.name() == name)
        {
            self.initializers.insert(floats(&name, values.into_iter()));
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

/// Whether a node is, or is the start of, a layer normalization. Exports with opset 16 and before write it as
/// `ReduceMean` and further nodes.
fn is_norm(node: &NodeProto) -> bool {
    ["LayerNormalization", LAYER_NORM.name, "ReduceMean"].contains(&node.op_type())
}

/// Int8 weights, concatenated like external data.
#[derive(Default)]
struct QuantizedWeights {
    bytes: Vec<u8>,
    /// Byte range and shape of each weight.
    ranges: HashMap<String, (Range<usize>, [usize; 2])>,
    scales: HashMap<String, Vec<f32>>,
}

impl QuantizedWeights {
    /// Adds a weight as \[rows, columns\]; `transposed`: whether it is stored as \[columns, rows\].
    fn add(&mut self, name: &str, values: &[u8], columns: usize, transposed: bool, bits: Bits) {
        let rows = values.len() / (4 * columns);
        let mut largest = vec![0.0_f32; columns];
        if transposed {
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
        // A column of zeros can have any scale.
        let nonzero = |largest: &f32| if *largest > 0.0 { *largest } else { 1.0 };
        let inverse: Vec<f32> = largest.iter().map(|most| bits.largest() / nonzero(most)).collect();
        let quantize = |value: f32, inverse: &f32| (value * inverse).round() as i8 as u8;
        let start = self.bytes.len();
        if transposed {
            self.bytes.resize(start + rows * columns, 0);
            let table = &mut self.bytes[start..];
            for (column, (values, inverse)) in values.chunks_exact(4 * rows).zip(&inverse).enumerate() {
                for (row, value) in read_floats(values).enumerate() {
                    table[row * columns + column] = quantize(value, inverse);
                }
            }
        } else {
            for row in values.chunks_exact(4 * columns) {
                let values = read_floats(row).zip(&inverse);
                self.bytes
                    .extend(values.map(|(value, inverse)| quantize(value, inverse)));
            }
        }
        self.ranges
            .insert(name.into(), (start..self.bytes.len(), [rows, columns]));
        let scales = largest.iter().map(|most| nonzero(most) / bits.largest()).collect();
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

/// Names of the tensors that `data` is quantized to: values, scale and zero point.
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

fn matmul_node(matmul: &MatMulMatch, old: &NodeProto) -> NodeProto {
    let [values, scale, zero] = quantized_names(&matmul.data);
    let mut input = vec![values, int8(&matmul.weight), scale, matmul.scales(), zero];
    if let Some((bias, _)) = matmul.scaled_bias() {
        // In between is the zero point of the weights, which is zero.
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
    fn columns_are_scaled_to_the_quantized_range() {
        let values: Vec<u8> = [1.0_f32, -0.5, 0.0, -2.0, 0.25, 0.0]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        for (bits, expected) in [
            (Bits::Seven, [32_i8, -64, 0, -64, 32, 0]),
            (Bits::Eight, [64, -127, 0, -127, 64, 0]),
        ] {
            let mut quantized = QuantizedWeights::default();
            quantized.add("w", &values, 3, false, bits);
            // The same weights, transposed.
            let transposed: Vec<u8> = [0, 3, 1, 4, 2, 5]
                .iter()
                .flat_map(|i| &values[4 * i..][..4])
                .copied()
                .collect();
            quantized.add("transposed", &transposed, 3, true, bits);
            assert_eq!(quantized.bytes[..6], quantized.bytes[6..]);
            assert_eq!(quantized.scales["w"], quantized.scales["transposed"]);
            assert_eq!(quantized.ranges["transposed"].1, [2, 3]);
            let found: Vec<i8> = quantized.bytes[..6].iter().map(|&byte| byte as i8).collect();
            assert_eq!(found, expected);
            assert_eq!(
                quantized.scales["w"],
                [2.0 / bits.largest(), 0.5 / bits.largest(), 1.0 / bits.largest()]
            );
        }
    }

    /// A specialized export.
    fn specialized(path: &str) -> (Graph, StreamingConfig) {
        let mut graph = graph_in(path);
        let streaming = StreamingConfig::read(&graph).unwrap();
        specialize(&mut graph, &streaming, 1).unwrap();
        (graph, streaming)
    }

    fn count(graph: &Graph, operation: &str) -> usize {
        graph.operations().filter(|&found| found == operation).count()
    }

    #[test]
    fn only_layers_are_quantized() {
        for path in [
            "../nemostt/assets/demo-model/encoder-model.onnx",
            "../nemostt/assets/demo-model/ctc.onnx",
        ] {
            let (mut graph, streaming) = specialized(path);
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
        let (mut graph, _) = specialized("../nemostt/assets/demo-model/encoder-model.onnx");
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

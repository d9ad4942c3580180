// SPDX-License-Identifier: MIT OR Apache-2.0

//! Converts 16-bit weights to float32, for processors without half-precision arithmetic.
//!
//! ONNX Runtime would do this operator by operator, with casts around each, and its release 1.31.1 crashes while doing
//! so for an LSTM whose states are cast (a segmentation fault in its graph optimizer). The weights keep their values;
//! accumulation is as accurate as in fp32.

use std::collections::TryReserveError;

use bytes::Bytes;
use half::{bf16, f16};

use crate::{FileBytes, Graph, TensorProto, onnx};
use onnx::tensor_proto::DataType;

impl Graph {
    /// Converts all float16 and bfloat16 tensors to float32.
    ///
    /// # Errors
    /// If there is not enough memory for the float32 weights.
    pub fn fp16_to_fp32(&mut self) -> Result<(), TryReserveError> {
        let mut converted = ConvertedWeights::default();
        let raw = |tensor: &TensorProto| {
            tensor
                .raw_data
                .as_ref()
                .filter(|_| is_half(tensor.data_type()))
                .map_or(0, Bytes::len)
        };
        let halves: usize = self.initializers.iter().map(raw).sum();
        converted.bytes.try_reserve_exact(2 * halves)?;
        // Allocating shared memory aborts on failure, so the same amount is allocated and freed first.
        Vec::<u8>::new().try_reserve_exact(2 * halves + 4096)?;
        self.edit_proto(|graph| convert_graph(graph, &mut converted));
        let file: FileBytes = converted.bytes.into();
        let all = Bytes::from_owner(file.clone());
        self.edit_proto(|graph| attach_values(graph, &mut converted.ranges.into_iter(), &all));
        self.files.push(file);
        Ok(())
    }
}

/// Converted weights, concatenated like external data.
#[derive(Default)]
struct ConvertedWeights {
    bytes: Vec<u8>,
    ranges: Vec<std::ops::Range<usize>>,
}

fn is_half(code: i32) -> bool {
    code == DataType::Float16 as i32 || code == DataType::Bfloat16 as i32
}

/// Changes all element types, and collects the converted weights.
fn convert_graph(graph: &mut onnx::GraphProto, converted: &mut ConvertedWeights) {
    let infos = graph
        .input
        .iter_mut()
        .chain(&mut graph.output)
        .chain(&mut graph.value_info);
    for info in infos {
        let kind = info.r#type.as_mut().and_then(|t| t.value.as_mut());
        if let Some(onnx::type_proto::Value::TensorType(tensor)) = kind
            && is_half(tensor.elem_type())
        {
            tensor.elem_type = Some(DataType::Float as i32);
        }
    }
    for tensor in &mut graph.initializer {
        convert_tensor(tensor, converted);
    }
    for node in &mut graph.node {
        let is_cast = node.op_type() == "Cast";
        for attribute in &mut node.attribute {
            if is_cast && attribute.name() == "to" && is_half(attribute.i() as i32) {
                attribute.i = Some(i64::from(DataType::Float as i32));
            }
            if let Some(tensor) = &mut attribute.t {
                convert_tensor(tensor, converted);
            }
            for inner in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                convert_graph(inner, converted);
            }
        }
    }
}

/// Converts `tensor`, whose values are then attached by [`attach_values`].
fn convert_tensor(tensor: &mut TensorProto, converted: &mut ConvertedWeights) {
    let code = tensor.data_type();
    if !is_half(code) {
        return;
    }
    let to_f32 = |bits: u16| match code == DataType::Float16 as i32 {
        true => f16::from_bits(bits).to_f32(),
        false => bf16::from_bits(bits).to_f32(),
    };
    let start = converted.bytes.len();
    match tensor.raw_data.take().filter(|raw| !raw.is_empty()) {
        Some(raw) => {
            let values = raw.as_chunks().0.iter().map(|bits| to_f32(u16::from_le_bytes(*bits)));
            converted.bytes.extend(values.flat_map(f32::to_le_bytes));
        }
        // Small tensors may be stored as integers, of which the lower half counts.
        None => {
            let values = std::mem::take(&mut tensor.int32_data).into_iter();
            converted
                .bytes
                .extend(values.flat_map(|bits| to_f32(bits as u16).to_le_bytes()));
        }
    }
    converted.ranges.push(start..converted.bytes.len());
    tensor.data_type = Some(PENDING);
}

/// Marks a tensor whose values are not attached yet; not an element type of ONNX.
const PENDING: i32 = -1;

/// Attaches the values of all converted tensors, in the order of [`convert_graph`].
fn attach_values(graph: &mut onnx::GraphProto, ranges: &mut dyn Iterator<Item = std::ops::Range<usize>>, all: &Bytes) {
    let attach = |tensor: &mut TensorProto, ranges: &mut dyn Iterator<Item = std::ops::Range<usize>>| {
        if tensor.data_type() == PENDING
            && let Some(range) = ranges.next()
        {
            tensor.raw_data = Some(all.slice(range));
            tensor.data_type = Some(DataType::Float as i32);
        }
    };
    for tensor in &mut graph.initializer {
        attach(tensor, ranges);
    }
    for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
        if let Some(tensor) = &mut attribute.t {
            attach(tensor, ranges);
        }
        for inner in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            attach_values(inner, ranges, all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ModelProto, NodeProto, onnx::GraphProto};

    #[test]
    fn fp16_to_fp32_preserves_values() {
        let raw: Vec<u8> = [1.5_f32, -0.25, 65504.0]
            .iter()
            .flat_map(|&value| f16::from_f32(value).to_bits().to_le_bytes())
            .collect();
        let half = TensorProto {
            dims: vec![3],
            data_type: Some(DataType::Float16 as i32),
            raw_data: Some(raw.into()),
            ..Default::default()
        };
        let brain = TensorProto {
            name: Some("brain".into()),
            dims: vec![1],
            data_type: Some(DataType::Bfloat16 as i32),
            int32_data: vec![i32::from(bf16::from_f32(-3.0).to_bits())],
            ..Default::default()
        };
        let graph = GraphProto {
            node: vec![NodeProto::default()],
            initializer: vec![half, brain],
            ..Default::default()
        };
        let mut graph = Graph::from_proto(ModelProto::default(), graph);
        graph.fp16_to_fp32().unwrap();
        let values = |index: usize| -> Vec<f32> {
            let tensor = &graph.initializers[index];
            assert_eq!(tensor.data_type(), DataType::Float as i32);
            let raw = tensor.raw_data.as_ref().unwrap();
            raw.as_chunks()
                .0
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect()
        };
        assert_eq!(values(0), [1.5, -0.25, 65504.0]);
        assert_eq!(values(1), [-3.0]);
    }
}

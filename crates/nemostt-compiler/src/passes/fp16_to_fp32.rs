// SPDX-License-Identifier: MIT OR Apache-2.0

//! Half precision for a processor that has none: weights of 16 bits become weights of 32.
//!
//! ONNX Runtime would do it one operator at a time, with casts around each, and its 1.31.1 crashes while it tries that on
//! an LSTM whose states are cast (a segmentation fault in its graph optimiser). The values of the weights stay what they
//! are; sums are as exact as in fp32.

use std::collections::TryReserveError;

use bytes::Bytes;
use half::{bf16, f16};

use crate::{FileBytes, Graph, TensorProto, onnx};
use onnx::tensor_proto::DataType;

impl Graph {
    /// Makes float32 of everything that is float16 or bfloat16.
    ///
    /// # Errors
    /// There is not enough memory for the wider weights.
    pub fn fp16_to_fp32(&mut self) -> Result<(), TryReserveError> {
        let mut wide = WidenedWeights::default();
        let raw = |tensor: &TensorProto| {
            tensor
                .raw_data
                .as_ref()
                .filter(|_| is_half(tensor.data_type()))
                .map_or(0, Bytes::len)
        };
        let halves: usize = self.graph.initializer.iter().map(raw).sum();
        wide.bytes.try_reserve_exact(2 * halves)?;
        // Shared memory cannot be asked for without aborting where there is none: as much is taken for a moment.
        Vec::<u8>::new().try_reserve_exact(2 * halves + 4096)?;
        widen_in(&mut self.graph, &mut wide);
        let file: FileBytes = wide.bytes.into();
        let all = Bytes::from_owner(file.clone());
        place_in(&mut self.graph, &mut wide.places.into_iter(), &all);
        self.files.push(file);
        Ok(())
    }
}

/// Widened weights, one after the other, so that they can be handed over like those of a file.
#[derive(Default)]
struct WidenedWeights {
    bytes: Vec<u8>,
    places: Vec<std::ops::Range<usize>>,
}

fn is_half(code: i32) -> bool {
    code == DataType::Float16 as i32 || code == DataType::Bfloat16 as i32
}

/// Changes every type, and writes the widened weights down.
fn widen_in(graph: &mut onnx::GraphProto, wide: &mut WidenedWeights) {
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
        widen_tensor(tensor, wide);
    }
    for node in &mut graph.node {
        let is_cast = node.op_type() == "Cast";
        for attribute in &mut node.attribute {
            if is_cast && attribute.name() == "to" && is_half(attribute.i() as i32) {
                attribute.i = Some(i64::from(DataType::Float as i32));
            }
            if let Some(tensor) = &mut attribute.t {
                widen_tensor(tensor, wide);
            }
            for inner in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                widen_in(inner, wide);
            }
        }
    }
}

/// Leaves `tensor` marked as float32 without values; [`place_in`] gives them.
fn widen_tensor(tensor: &mut TensorProto, wide: &mut WidenedWeights) {
    let code = tensor.data_type();
    if !is_half(code) {
        return;
    }
    let widen = |bits: u16| match code == DataType::Float16 as i32 {
        true => f16::from_bits(bits).to_f32(),
        false => bf16::from_bits(bits).to_f32(),
    };
    let start = wide.bytes.len();
    match tensor.raw_data.take().filter(|raw| !raw.is_empty()) {
        Some(raw) => {
            let values = raw.as_chunks().0.iter().map(|bits| widen(u16::from_le_bytes(*bits)));
            wide.bytes.extend(values.flat_map(f32::to_le_bytes));
        }
        // Small tensors may be written as numbers, whose lower half counts.
        None => {
            let values = std::mem::take(&mut tensor.int32_data).into_iter();
            wide.bytes
                .extend(values.flat_map(|bits| widen(bits as u16).to_le_bytes()));
        }
    }
    wide.places.push(start..wide.bytes.len());
    tensor.data_type = Some(WAITING);
}

/// Marks a tensor whose values are still to be placed: no element type of ONNX.
const WAITING: i32 = -1;

/// Gives every widened tensor its values, in the order in which [`widen_in`] met them.
fn place_in(graph: &mut onnx::GraphProto, places: &mut dyn Iterator<Item = std::ops::Range<usize>>, all: &Bytes) {
    let place = |tensor: &mut TensorProto, places: &mut dyn Iterator<Item = std::ops::Range<usize>>| {
        if tensor.data_type() == WAITING
            && let Some(place) = places.next()
        {
            tensor.raw_data = Some(all.slice(place));
            tensor.data_type = Some(DataType::Float as i32);
        }
    };
    for tensor in &mut graph.initializer {
        place(tensor, places);
    }
    for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
        if let Some(tensor) = &mut attribute.t {
            place(tensor, places);
        }
        for inner in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            place_in(inner, places, all);
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
            dims: vec![1],
            data_type: Some(DataType::Bfloat16 as i32),
            int32_data: vec![i32::from(bf16::from_f32(-3.0).to_bits())],
            ..Default::default()
        };
        let mut graph = Graph {
            header: ModelProto::default(),
            graph: GraphProto {
                node: vec![NodeProto::default()],
                initializer: vec![half, brain],
                ..Default::default()
            },
            files: Vec::new(),
            packed: Vec::new(),
        };
        graph.fp16_to_fp32().unwrap();
        let values = |index: usize| -> Vec<f32> {
            let tensor = &graph.graph.initializer[index];
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

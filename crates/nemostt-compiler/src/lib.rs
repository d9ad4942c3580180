// SPDX-License-Identifier: MIT OR Apache-2.0

#![doc = include_str!("../README.md")]
#![warn(unreachable_pub)]

mod error;
mod fusions;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
#[allow(missing_docs)]
pub mod fuzzing;
mod import;
mod ir;
mod onnx;
pub mod ops;
mod passes;
pub mod pipeline;
pub mod regular_file;
pub mod streaming_geometry;

pub use error::GraphError;
pub use fusions::{
    RING_HEAD_INPUT,
    append_joint_head::SCORES,
    split_joint::{ProjectedJoint, split_joint},
    subgraph::{AXES, AttributeValue, CALLS, FUSED_SUBGRAPH, OUTPUTS, RESHAPE, SubgraphCall},
};
pub use import::{
    Component, Joint,
    canonicalize::{Contract, PROMPT_INPUT},
    expose_drop_input::{DROP_INPUT, make_drop_an_input},
    import,
    streaming_config::StreamingConfig,
    transducer::{TransducerGraphs, TransducerShape},
};
pub use ir::{compose::compose, graph::Graph};
pub use onnx::{
    ModelProto, NodeProto, TensorProto, ValueInfoProto,
    external_data::{Encoded, FileBytes, fill_shared, read_file},
    lazy_load::{LazyGraph, lazy_load},
    precision::Precision,
};
pub use passes::{
    BoundaryTensor, LENGTHS, NEXT_LENGTHS, SpecializedEncoder, SplitGraph, StateSpec, quantize_int8::Bits, specialize,
    specialize_predictor,
};

/// The version of this crate: a part of the key of what was compiled with it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Element type of a tensor, as far as these models use any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ElementType {
    F32,
    F16,
    I32,
    I64,
    Other(i32),
}

/// An input or output of a graph.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub element: ElementType,
    /// Its axes; `None` where the export left the size open.
    pub dims: Vec<Option<usize>>,
}

/// The graph in a file of this project, with the weights that it keeps in other files.
#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is how a test fails
pub fn graph_in(path: &str) -> Graph {
    let path = std::path::PathBuf::from(format!("{}/{path}", env!("CARGO_MANIFEST_DIR")));
    let mut graph = Graph::decode_file(read_file(&path).unwrap()).unwrap();
    graph
        .attach(|location| read_file(&path.with_file_name(location)))
        .unwrap();
    graph
}

/// Prediction network and joint in a file of this project that holds both.
#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is how a test fails
pub fn transducer_in(path: &str) -> TransducerGraphs {
    match import(graph_in(path)).unwrap().1 {
        Component::Transducer(graphs) => *graphs,
        part => panic!("{path} is {part:?}"),
    }
}

/// The halves of the demonstration model's joint, their products packed.
#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is how a test fails
pub fn packed_halves() -> ProjectedJoint {
    let mut halves =
        split_joint(&transducer_in("../nemostt/assets/demo-model/decoder_joint-model.onnx").joint).unwrap();
    halves.projection.prepack_matmuls().unwrap();
    halves.scoring.prepack_matmuls().unwrap();
    halves
}

/// Values of a small integer tensor; larger ones are weights and tables, never shapes or limits.
fn integers(tensor: &TensorProto) -> Option<Vec<i64>> {
    const SMALL: u64 = 16;
    elements(&tensor.dims).filter(|&count| count <= SMALL)?;
    let raw = tensor.raw_data.as_deref().unwrap_or_default();
    match element_type(tensor.data_type()) {
        ElementType::I64 if raw.is_empty() => Some(tensor.int64_data.clone()),
        ElementType::I64 => Some(raw.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
        ElementType::I32 if raw.is_empty() => Some(tensor.int32_data.iter().map(|&v| v.into()).collect()),
        ElementType::I32 => Some(
            raw.as_chunks()
                .0
                .iter()
                .map(|b| i32::from_le_bytes(*b).into())
                .collect(),
        ),
        _ => None,
    }
}

/// How many values a tensor of these sizes has; `None` where the sizes make no sense.
fn elements(dims: &[i64]) -> Option<u64> {
    dims.iter()
        .try_fold(1_u64, |all, &dim| all.checked_mul(u64::try_from(dim).ok()?))
}

fn element_type(code: i32) -> ElementType {
    use onnx::tensor_proto::DataType;
    match DataType::try_from(code) {
        Ok(DataType::Float) => ElementType::F32,
        Ok(DataType::Float16) => ElementType::F16,
        Ok(DataType::Int32) => ElementType::I32,
        Ok(DataType::Int64) => ElementType::I64,
        _ => ElementType::Other(code),
    }
}

/// A tensor of element type `element` and known shape.
fn value_info(name: &str, element: i32, dims: &[usize]) -> ValueInfoProto {
    ir::boundary::value_info(&TensorInfo {
        name: name.into(),
        element: element_type(element),
        dims: dims.iter().copied().map(Some).collect(),
    })
}

/// ONNX's number for the element type of a tensor.
fn element_code(info: &ValueInfoProto) -> i32 {
    use onnx::type_proto::Value::TensorType;
    match info.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(TensorType(tensor)) => tensor.elem_type(),
        _ => 0,
    }
}

fn tensor_info(info: &ValueInfoProto) -> TensorInfo {
    use onnx::{tensor_shape_proto::dimension::Value, type_proto};
    let tensor = match info.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => Some(tensor),
        _ => None,
    };
    let dims = tensor.and_then(|t| t.shape.as_ref()).map(|shape| {
        let size = |dim: &onnx::tensor_shape_proto::Dimension| match dim.value {
            Some(Value::DimValue(size)) => usize::try_from(size).ok(),
            _ => None,
        };
        shape.dim.iter().map(size).collect()
    });
    TensorInfo {
        name: info.name().to_owned(),
        element: element_type(element_code(info)),
        dims: dims.unwrap_or_default(),
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

#![doc = include_str!("../README.md")]
#![warn(unreachable_pub)]

mod append_joint_head;
mod canonicalize;
mod compact;
mod compose;
mod edit;
mod error;
mod expose_drop_input;
mod fp16_to_fp32;
mod fuse_epilogue;
mod fuse_subgraph;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
#[allow(missing_docs)]
pub mod fuzzing;
#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is how a test fails
mod import_tests;
mod joint_to_rows;
mod layouts;
mod lazy_load;
mod match_matmul;
mod passes;
mod precision;
mod prepack_matmul;
mod quantize_int8;
pub mod regular_file;
mod size;
mod split_joint;
mod streaming_config;
pub mod streaming_geometry;
mod transducer;
mod validate;
mod weights;

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use prost::Message;

pub use append_joint_head::SCORES;
pub use canonicalize::{Contract, PROMPT_INPUT};
pub use compose::compose;
pub use error::GraphError;
pub use expose_drop_input::{DROP_INPUT, make_drop_an_input};
pub use fuse_subgraph::{AXES, AttributeValue, CALLS, FUSED_SUBGRAPH, OUTPUTS, RESHAPE, SubgraphCall, WIDTH};
pub use joint_to_rows::JOINT_ADD_RELU;
use layouts::Detected;
pub use lazy_load::{LazyGraph, lazy_load};
pub use passes::{
    BoundaryTensor, EPSILON, GLU_DEPTHWISE_CONV, LAYER_NORM, LENGTHS, LSTM_CELL, NEXT_LENGTHS, PADS, REL_POS_ATTENTION,
    RELU, RING_HEAD_INPUT, SCALE, SHARED_INPUT, SILU, STRIDED_CONV, STRIDES, SplitGraph,
};
pub use passes::{SpecializedEncoder, StateSpec, specialize, specialize_predictor};
pub use precision::Precision;
pub use prepack_matmul::{DOMAIN, PACKED_MATMUL, WEIGHTS_INDEX};
pub use quantize_int8::Bits;
pub use split_joint::{ProjectedJoint, split_joint};
pub use streaming_config::StreamingConfig;
pub use transducer::{TransducerGraphs, TransducerShape};
pub use weights::fill_shared;
pub use weights::{Encoded, FileBytes, read_file};

/// The ONNX protobuf messages, which prost generated from `onnx.proto`: see `tests/generated.rs`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
#[rustfmt::skip]
mod onnx;
pub use onnx::{ModelProto, NodeProto, TensorProto, ValueInfoProto};

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

/// A decoded ONNX file.
#[derive(Debug, Clone)]
pub struct Graph {
    /// The file but for its graph.
    header: ModelProto,
    graph: onnx::GraphProto,
    /// What the weights point into.
    files: Vec<FileBytes>,
    /// Weights of the products that were taken out: see `prepack_matmul.rs`.
    packed: Vec<Arc<nemostt_kernels::gemm::PackedWeights>>,
}

impl Graph {
    /// Decodes a file; its weights stay where they are in `bytes`.
    ///
    /// # Errors
    /// [`GraphError::NotOnnx`].
    pub fn decode(bytes: Bytes) -> Result<Self, GraphError> {
        if bytes.is_empty() {
            return Err(GraphError::NotOnnx("it is empty".into()));
        }
        size::check(&bytes, size::Kind::Model).map_err(GraphError::NotOnnx)?;
        let mut header = ModelProto::decode(bytes).map_err(|error| GraphError::NotOnnx(error.to_string()))?;
        match header.graph.take() {
            Some(graph) if !graph.node.is_empty() => Ok(Self {
                header,
                graph,
                files: Vec::new(),
                packed: Vec::new(),
            }),
            _ => Err(GraphError::NotOnnx("there is no graph in it".into())),
        }
    }

    /// What the graph takes.
    pub fn inputs(&self) -> Vec<TensorInfo> {
        // Old exporters list initialisers among the inputs.
        let weights: Vec<&str> = self.graph.initializer.iter().map(TensorProto::name).collect();
        let real = |info: &&ValueInfoProto| !weights.contains(&info.name());
        self.graph.input.iter().filter(real).map(tensor_info).collect()
    }

    /// What the graph gives.
    pub fn outputs(&self) -> Vec<TensorInfo> {
        self.graph.output.iter().map(tensor_info).collect()
    }

    /// The input of this name.
    pub fn input(&self, name: &str) -> Option<TensorInfo> {
        self.graph.input.iter().find(|i| i.name() == name).map(tensor_info)
    }

    /// The output of this name.
    pub fn output(&self, name: &str) -> Option<TensorInfo> {
        self.graph.output.iter().find(|o| o.name() == name).map(tensor_info)
    }

    /// A value of the file's metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        let found = self.header.metadata_props.iter().find(|entry| entry.key() == key);
        found.map(|entry| entry.value())
    }

    /// The operations of its nodes.
    pub fn operations(&self) -> impl Iterator<Item = &str> {
        self.graph.node.iter().map(|node| node.op_type())
    }

    /// The files that hold its weights: its own, and those that it names.
    pub fn files(&self) -> &[FileBytes] {
        &self.files
    }

    /// Whether its inputs and outputs are those of an encoder with caches.
    pub fn is_encoder(&self) -> bool {
        matches!(layouts::detect(self), Some((_, Detected::Encoder(_))))
    }

    fn nodes(&self) -> &[NodeProto] {
        &self.graph.node
    }

    /// The node that makes each tensor.
    fn producers(&self) -> HashMap<&str, &NodeProto> {
        let outputs = |node| -> Vec<(&str, &NodeProto)> { outputs_of(node) };
        self.nodes().iter().flat_map(outputs).collect()
    }

    /// The integers of a constant tensor, whether a `Constant` node or an initialiser makes it.
    fn constants(&self) -> HashMap<&str, Vec<i64>> {
        let nodes = self.nodes().iter().filter(|node| node.op_type() == "Constant");
        let from_nodes = nodes.filter_map(|node| {
            let value = node.attribute.iter().find(|a| a.name() == "value")?.t.as_ref()?;
            Some((node.output.first()?.as_str(), integers(value)?))
        });
        let weights = self.graph.initializer.iter();
        let from_weights = weights.filter_map(|tensor| Some((tensor.name(), integers(tensor)?)));
        from_nodes.chain(from_weights).collect()
    }
}

/// A part of a model, brought to the one contract.
#[derive(Debug)]
pub enum Component {
    /// An encoder, with or without a CTC head: see [`Contract`].
    Encoder(Graph, Contract),
    /// An encoder that was exported without its caches.
    EncoderWithoutCaches,
    /// Prediction network and joint that came in one file.
    Transducer(Box<TransducerGraphs>),
    /// A prediction network.
    Prediction(Graph),
    /// A joint.
    Joint(Joint),
}

impl Component {
    /// What it is.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Encoder(_, contract) if contract.ctc => "encoder with CTC head",
            Self::Encoder(..) | Self::EncoderWithoutCaches => "encoder",
            Self::Transducer(_) => "prediction network and joint",
            Self::Prediction(_) => "prediction network",
            Self::Joint(_) => "joint",
        }
    }
}

/// A joint that is brought to the contract as soon as the width of the encoder is known.
#[derive(Debug)]
pub struct Joint {
    graph: Graph,
    names: &'static layouts::JointNames,
}

impl Joint {
    /// The two graphs of a transducer whose encoder frames are `width` wide.
    ///
    /// # Errors
    /// What they lack.
    pub fn with(self, prediction: Graph, width: usize) -> Result<TransducerGraphs, GraphError> {
        transducer::join(prediction, self.graph, self.names, width)
    }
}

/// Recognises the layout of `graph` by its inputs and outputs, and brings it to the contract. Gives the layout's name, too.
///
/// # Errors
/// What it lacks, or what it is instead.
pub fn import(mut graph: Graph) -> Result<(&'static str, Component), GraphError> {
    let Some((layout, recognized)) = layouts::detect(&graph) else {
        let inputs: Vec<String> = graph.inputs().into_iter().map(|input| input.name).collect();
        return Err(GraphError::UnknownLayout {
            inputs: inputs.join(", "),
        });
    };
    // What is not recognised may be anything else that lies beside the model.
    validate::validate(&graph, false)?;
    let part = match recognized {
        Detected::EncoderWithoutCaches => Component::EncoderWithoutCaches,
        Detected::Encoder(names) => {
            let contract = canonicalize::canonicalize(&mut graph, layout.name, names)?;
            Component::Encoder(graph, contract)
        }
        Detected::DecoderJoint(names) => Component::Transducer(Box::new(transducer::split(graph, names)?)),
        Detected::Prediction(names) => Component::Prediction(transducer::prediction(graph, names)?),
        Detected::Joint(names) => Component::Joint(Joint { graph, names }),
    };
    Ok((layout.name, part))
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

fn outputs_of(node: &NodeProto) -> Vec<(&str, &NodeProto)> {
    node.output.iter().map(|name| (name.as_str(), node)).collect()
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
    edit::value_info(&TensorInfo {
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

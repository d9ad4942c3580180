// SPDX-License-Identifier: MIT OR Apache-2.0

#![doc = include_str!("../README.md")]
#![warn(unreachable_pub)]
#![forbid(unsafe_code)]

mod error;
mod files;
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
pub use files::{
    external_data::{Encoded, fill_shared, read_file},
    lazy_load::{LazyGraph, lazy_load},
    precision::Precision,
};
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
    FileBytes, ModelProto, NodeProto, TensorProto, ValueInfoProto,
    types::{ElementType, TensorInfo},
};
pub use passes::{
    BoundaryTensor, LENGTHS, NEXT_LENGTHS, SpecializedEncoder, SplitGraph, StateSpec, quantize_int8::Bits,
    specialize_predictor,
};
pub use pipeline::specialize;

/// The version of this crate: a part of the key of what was compiled with it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

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

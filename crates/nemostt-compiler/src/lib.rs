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
pub mod lowering;
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
    BoundaryTensor, LENGTH_GRAPH_INPUTS, LENGTHS, NEXT_LENGTHS, READ_SLOTS_INPUT, SLOTS_INPUT, SpecializedEncoder,
    SplitGraph, StateSpec, quantize_int8::Bits, specialize_predictor,
};
pub use pipeline::specialize;

/// Version of this crate, part of the cache key of compiled models.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Reads a graph and its external weights; `path` is relative to this crate.
#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is how a test fails
pub fn graph_in(path: &str) -> Graph {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let mut graph = Graph::decode_file(read_file(&path).unwrap()).unwrap();
    graph
        .attach(|location| read_file(&path.with_file_name(location)))
        .unwrap();
    graph
}

/// Reads prediction network and joint from the file of both; `path` is relative to this crate.
#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is how a test fails
pub fn transducer_in(path: &str) -> TransducerGraphs {
    match import(graph_in(path)).unwrap().1 {
        Component::Transducer(graphs) => *graphs,
        other => panic!("{path} is {other:?}"),
    }
}

/// The demo model's joint, split and with packed weights.
#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is how a test fails
pub fn packed_halves() -> ProjectedJoint {
    let mut halves =
        split_joint(&transducer_in("../nemostt/assets/demo-model/decoder_joint-model.onnx").joint).unwrap();
    halves.projection.prepack_matmuls().unwrap();
    halves.scoring.prepack_matmuls().unwrap();
    halves
}

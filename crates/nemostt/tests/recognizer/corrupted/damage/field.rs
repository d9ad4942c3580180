// SPDX-License-Identifier: MIT OR Apache-2.0

//! Field numbers of ONNX's messages (`onnx.proto`).

pub const MODEL_GRAPH: u64 = 7;
pub const MODEL_OPSET: u64 = 8;
pub const OPSET_DOMAIN: u64 = 1;
pub const OPSET_VERSION: u64 = 2;
pub const NODE: u64 = 1;
pub const INITIALIZER: u64 = 5;
pub const GRAPH_INPUT: u64 = 11;
pub const GRAPH_OUTPUT: u64 = 12;
pub const VALUE_INFO: u64 = 13;
pub const NODE_INPUT: u64 = 1;
pub const NODE_OUTPUT: u64 = 2;
pub const NODE_NAME: u64 = 3;
pub const NODE_OPERATOR: u64 = 4;
pub const NODE_ATTRIBUTE: u64 = 5;
pub const NODE_DOMAIN: u64 = 7;
pub const ATTRIBUTE_NAME: u64 = 1;
pub const ATTRIBUTE_INT: u64 = 3;
pub const ATTRIBUTE_TENSOR: u64 = 5;
pub const ATTRIBUTE_GRAPH: u64 = 6;
pub const ATTRIBUTE_INTS: u64 = 8;
pub const ATTRIBUTE_TYPE: u64 = 20;
pub const TENSOR_DIMS: u64 = 1;
pub const TENSOR_TYPE: u64 = 2;
pub const TENSOR_NAME: u64 = 8;
pub const TENSOR_RAW: u64 = 9;
pub const TENSOR_EXTERNAL: u64 = 13;
pub const ENTRY_VALUE: u64 = 2;
pub const VALUE_TYPE: u64 = 2;
pub const TYPE_TENSOR: u64 = 1;
pub const TENSOR_TYPE_ELEMENT: u64 = 1;
pub const TENSOR_TYPE_SHAPE: u64 = 2;
pub const SHAPE_DIM: u64 = 1;
pub const DIM_VALUE: u64 = 1;

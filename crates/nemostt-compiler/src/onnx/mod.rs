// SPDX-License-Identifier: MIT OR Apache-2.0

//! ONNX files: the protobuf messages, reading them without copying weights, checking them, and writing them for ONNX Runtime.

pub(crate) mod compact;
pub(crate) mod external_data;
pub(crate) mod lazy_load;
pub(crate) mod precision;
/// The protobuf messages, which prost generated from `onnx.proto`: see `tests/generated.rs`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
#[rustfmt::skip]
mod proto;
pub(crate) mod size;
pub(crate) mod validate;

pub use self::proto::*;

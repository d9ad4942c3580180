// SPDX-License-Identifier: MIT OR Apache-2.0

//! Graphs in files: reading them without copying weights, checking them, and writing them for ONNX Runtime and for the cache.

pub(crate) mod compact;
pub(crate) mod external_data;
pub(crate) mod lazy_load;
pub(crate) mod precision;
pub(crate) mod validate;

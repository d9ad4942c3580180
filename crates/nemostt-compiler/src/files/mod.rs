// SPDX-License-Identifier: MIT OR Apache-2.0

//! Graph files: reading without copying weights, validating, and encoding for ONNX Runtime and the cache.

pub(crate) mod compact;
pub(crate) mod external_data;
pub(crate) mod lazy_load;
pub(crate) mod precision;
pub(crate) mod validate;

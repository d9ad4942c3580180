// SPDX-License-Identifier: MIT OR Apache-2.0

//! The arithmetic of our own operations, which `model/runtime/operations.rs` gives to ONNX Runtime.
//!
//! | operation | in place of |
//! |---|---|
//! | [`matrix`] | products with constant weights |
//! | [`attention`] | the 20 nodes of relative attention between its products |
//! | [`convolution`] | the 12 nodes between a convolution module's products |
//!
//! Nothing here knows of graphs. Vectors are as long as the processor's: `pulp` picks the code when it runs.

pub(crate) mod attention;
pub(crate) mod convolution;
pub(crate) mod matrix;
mod vectors;

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which graphs' products are computed here and not by ONNX Runtime.

use super::{
    options::{Device, GraphOptimization, Options},
    runtime::device_of,
};
use crate::error::{Error, Result};
use nemostt_compiler::{Graph, Precision};
use nemostt_kernels::gemm;

/// Whether a graph runs with operations of our own: on a processor that they are made for, unless `options` ask for the
/// export as it is.
pub(super) fn use_custom_ops(options: &Options) -> Result<bool> {
    let asked = options.graph_optimization == GraphOptimization::All;
    Ok(asked && device_of(options)? == Device::Cpu && gemm::is_supported())
}

/// Makes the products of the graph of file `name` our own where that [may be](use_custom_ops) and they are of float32.
pub(super) fn prepack_matmuls(graph: &mut Graph, name: &str, options: &Options) -> Result<()> {
    if use_custom_ops(options)? && graph.precision() == Precision::Fp32 {
        graph.prepack_matmuls().map_err(|error| Error::OutOfMemory {
            doing: format!("pack the weights of {name}"),
            reason: error.to_string(),
        })?;
    }
    Ok(())
}

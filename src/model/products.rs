// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which graphs' products are computed here and not by ONNX Runtime.

use super::{
    options::{Device, GraphOptimization, Options},
    runtime::device_of,
};
use crate::{
    error::{Error, Result},
    graph::{Graph, Precision},
    matrix,
};

/// Makes the products of the graph of file `name` our own where that is faster: in float32, on a processor that is made
/// for it, unless `options` ask for the export as it is.
pub(super) fn pack_products(graph: &mut Graph, name: &str, options: &Options) -> Result<()> {
    let may = options.graph_optimization == GraphOptimization::All && device_of(options)? == Device::Cpu;
    if may && graph.precision() == Precision::Fp32 && matrix::is_fast() {
        graph.pack_products().map_err(|error| Error::OutOfMemory {
            doing: format!("pack the weights of {name}"),
            reason: error.to_string(),
        })?;
    }
    Ok(())
}

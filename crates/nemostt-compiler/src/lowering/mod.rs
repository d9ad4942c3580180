// SPDX-License-Identifier: MIT OR Apache-2.0

//! Lowers a whole graph to one program: a list of calls that the [executor](nemostt_kernels::executor) runs without ONNX
//! Runtime, for any number of streams at a time. ONNX Runtime cannot batch such a graph: its operators would have to gather
//! the caches of all streams into one tensor for each step, and scatter them again.
//!
//! What fusions leave of an encoder lowers to few further operations: a selection of frames, a mask, views of the same values
//! with other shapes. Nodes that depend on constants only become a graph of their own, which runs once.
//!
//! A program knows rows of values, not axes. So each operator is only lowered if what is known of the shapes and types of
//! its inputs leaves no doubt that rows mean the same.

mod calls;
mod constants;
mod inputs;
mod rows;
mod values;
mod views;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use bytes::Bytes;

use self::{
    constants::{constant_tensors, constants_graph, constants_read},
    inputs::{lowered_inputs, remove_float_casts},
    values::{Lowering, Shape, Value, unsupported},
};
use crate::{
    Encoded, FUSED_SUBGRAPH, Graph, NodeProto, SubgraphCall, TensorInfo, ir::graph::is_onnx_domain, ops::DOMAIN,
};

/// A graph as a program.
pub struct LoweredGraph {
    /// The inputs of the graph that the program reads. They are its first values.
    pub inputs: Vec<LoweredInput>,
    /// The constants that its operations are created with. They are its next values.
    pub constants: Vec<String>,
    /// Computes the constants: a graph without inputs.
    pub constants_graph: Encoded,
    /// The calls. Each numbers its outputs after all values before.
    pub calls: Vec<SubgraphCall>,
    /// All outputs of the graph.
    pub outputs: Vec<LoweredOutput>,
}

/// An input of a program: float32, unless it is a scalar or indices of rows, which the graph declares as int64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoweredInput {
    /// Its name in the graph.
    pub name: String,
    /// Its shape for the program.
    pub dims: Vec<usize>,
    /// Whether its last two axes are swapped for the program. Only those of `audio_signal` may be.
    pub is_transposed: bool,
}

/// An output of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoweredOutput {
    /// Its name in the graph.
    pub name: String,
    /// Number of the value.
    pub value: usize,
    /// Whether its last two axes are swapped in the program. Only those of `outputs` may be.
    pub is_transposed: bool,
    /// Values per row in the program, if known.
    pub width: Option<usize>,
}

impl Encoded {
    /// Lowers the graph.
    ///
    /// # Errors
    /// A sentence that says why that is not possible.
    pub fn lower(&self) -> Result<LoweredGraph, String> {
        let mut graph = Graph::decode(Bytes::copy_from_slice(&self.model)).map_err(|fault| fault.to_string())?;
        graph.packed.clone_from(&self.packed_weights);
        remove_float_casts(&mut graph);
        let mut lowered = lower(&graph)?;
        lowered.constants_graph.files.clone_from(&self.files);
        Ok(lowered)
    }
}

fn lower(graph: &Graph) -> Result<LoweredGraph, String> {
    let constant = constant_tensors(graph);
    let inputs = lowered_inputs(graph)?;
    let constants = constants_read(graph, &constant);
    let mut lowering = Lowering {
        graph,
        inputs: graph.inputs(),
        values: HashMap::new(),
        next: inputs.len() + constants.len(),
        constant,
        constants,
        calls: Vec::new(),
    };
    for (number, (info, input)) in graph.inputs.iter().zip(&inputs).enumerate() {
        let value = Value {
            is_transposed: input.is_transposed,
            ..Value::new(number, Shape::of_input(&input.dims))
        };
        lowering.values.insert(info.name(), value);
    }
    for node in &graph.nodes {
        let mut outputs = node.output.iter();
        if !outputs.all(|output| lowering.constant.contains(output.as_str())) {
            lowering.node(node)?;
        }
    }
    let output = |info: TensorInfo| {
        let value = lowering.value(&info.name)?;
        Ok(LoweredOutput {
            value: value.root,
            is_transposed: value.is_transposed,
            width: value.shape.width,
            name: info.name,
        })
    };
    let outputs = graph.outputs().into_iter().map(output).collect::<Result<_, String>>()?;
    let Lowering { constants, calls, .. } = lowering;
    Ok(LoweredGraph {
        constants_graph: constants_graph(graph, &constants)?,
        inputs,
        constants,
        calls,
        outputs,
    })
}

impl<'a> Lowering<'a> {
    fn node(&mut self, node: &'a NodeProto) -> Result<(), String> {
        // Its empty name would stand for omitted inputs, too.
        if node.output.iter().any(String::is_empty) {
            return Err(unsupported(node));
        }
        match (node.domain(), node.op_type()) {
            (DOMAIN, FUSED_SUBGRAPH) => self.subgraph(node),
            (DOMAIN, _) => self.custom_op(node),
            (domain, operation) if is_onnx_domain(domain) => match operation {
                "Reshape" | "Unsqueeze" | "Squeeze" | "Identity" => self.view(node),
                "Transpose" => self.transpose(node),
                "Gather" => self.select_rows(node),
                "Mul" => self.scale_rows(node),
                "Relu" => self.relu(node),
                "LogSoftmax" => self.log_softmax(node),
                _ => Err(unsupported(node)),
            },
            _ => Err(unsupported(node)),
        }
    }
}

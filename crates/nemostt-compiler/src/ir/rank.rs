// SPDX-License-Identifier: MIT OR Apache-2.0

//! Rank inference for tensors whose shapes are dynamic or hidden by custom operators.

use std::collections::HashSet;

use crate::onnx::types::tensor_info;
use crate::{
    Graph, ValueInfoProto,
    ops::{self, Rows},
};

impl Graph {
    /// Constants and inputs with one axis, and their sums; `constants` are the former.
    fn lists<'a>(&'a self, constants: &HashSet<&'a str>) -> HashSet<&'a str> {
        let one = |info: &&ValueInfoProto| tensor_info(info).dims.len() == 1;
        let inputs = self.inputs.iter().filter(one).map(|input| input.name());
        let mut lists: HashSet<&str> = inputs.chain(constants.iter().copied()).collect();
        for node in self.nodes.iter().filter(|node| node.op_type() == "Add") {
            if let [output] = &node.output[..]
                && node.input.iter().all(|input| lists.contains(input.as_str()))
            {
                lists.insert(output);
            }
        }
        lists
    }

    /// Tensors with two axes that depend on the input: adding them requires equal sizes.
    pub(crate) fn rows(&self) -> HashSet<&str> {
        let constants = |fits: fn(&[i64]) -> bool| -> HashSet<&str> {
            let weights = self.initializers.iter().filter(|weight| fits(&weight.dims));
            weights.map(|weight| weight.name()).collect()
        };
        let (pairs, vectors) = (constants(|dims| dims == [2]), constants(|dims| dims.len() == 1));
        let lists = self.lists(&vectors);
        let mut rows: HashSet<&str> = HashSet::new();
        for node in &self.nodes {
            let is_known_rows = |input: Option<&String>| input.is_some_and(|name| rows.contains(name.as_str()));
            let is_list = |input: Option<&String>| input.is_some_and(|name| lists.contains(name.as_str()));
            let along = |axis: i64| node.attribute.iter().find(|a| a.name() == "axis").map_or(0, |a| a.i()) == axis;
            let of_operator = |operator: &str| match operator {
                "Gemm" => true,
                "Reshape" => node.input.get(1).is_some_and(|sizes| pairs.contains(sizes.as_str())),
                "LayerNormalization"
                | "Relu"
                | "Sigmoid"
                | "MatMul"
                | "DynamicQuantizeLinear"
                | "MatMulIntegerToFloat" => is_known_rows(node.input.first()),
                "Gather" => along(0) && is_known_rows(node.input.first()) && is_list(node.input.get(1)),
                // The bias is broadcast to all rows.
                "Add" if node.input.iter().any(|input| vectors.contains(input.as_str())) => {
                    node.input.iter().any(|input| is_known_rows(Some(input)))
                }
                "Add" | "Mul" => is_known_rows(node.input.first()) && is_known_rows(node.input.get(1)),
                _ => false,
            };
            let is_rows = match ops::schema(node.op_type()).map(|op| op.rows) {
                Some(Rows::Always) => true,
                Some(Rows::IfInput) => is_known_rows(node.input.first()),
                Some(Rows::Never) => false,
                None => of_operator(node.op_type()),
            };
            if let Some(output) = node.output.first().filter(|_| is_rows) {
                rows.insert(output);
            }
        }
        rows
    }
}

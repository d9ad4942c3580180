// SPDX-License-Identifier: MIT OR Apache-2.0

//! Fuses consecutive custom operations into one, a program that a team of threads runs. The threads go from one
//! operation to the next on their own, where ONNX Runtime would start and join them for each operation: 300 times in a
//! step of 17 layers.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::onnx::types::{integers, tensor_info};
use crate::{
    Graph, NodeProto, ValueInfoProto,
    onnx::{AttributeProto, attribute_proto::AttributeType},
    ops::{self, DOMAIN, JOINT_ADD_RELU, LSTM_CELL, PACKED_MATMUL, Rows, WIDTH},
};

/// A fused subgraph. Inputs: those of its calls, without the ones that other calls compute. Outputs, all float32: those
/// of its calls that are used elsewhere. Attributes: [`CALLS`], [`OUTPUTS`] and [`AXES`].
pub const FUSED_SUBGRAPH: &str = "FusedSubgraph";

/// Attribute: the calls, a JSON list of [`SubgraphCall`].
pub const CALLS: &str = "calls";

/// Attribute: the numbers of the values that are outputs.
pub const OUTPUTS: &str = "outputs";

/// Attribute: the rank of each output, or 0 if it is unknown.
pub const AXES: &str = "axes";

/// A call that reshapes rows to another width, its only attribute [`WIDTH`].
pub const RESHAPE: &str = "Reshape";

/// A call of an operation in a fused subgraph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubgraphCall {
    /// Operator of the original node.
    pub operation: String,
    /// Numbers of the values it reads. The inputs of the subgraph are numbered first, then the outputs of the calls.
    pub inputs: Vec<usize>,
    /// Numbers of the values it writes.
    pub outputs: Vec<usize>,
    /// Attributes of the original node.
    pub attributes: BTreeMap<String, AttributeValue>,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // the types say it
pub enum AttributeValue {
    Int(i64),
    Ints(Vec<i64>),
    Float(f32),
}

impl Graph {
    /// Fuses each group of two or more custom operations that can run one after the other with no other node in
    /// between, if at least one of them is a matrix product. Returns the number of operations fused.
    pub fn fuse_subgraphs(&mut self) -> usize {
        let levels = self.levels();
        let last_level = levels.iter().flatten().max().copied().unwrap_or(0);
        let mut fused = 0;
        let mut subgraphs = Vec::new();
        let mut removed = HashSet::new();
        for level in 0..=last_level {
            let group: Vec<usize> = (0..levels.len()).filter(|&node| levels[node] == Some(level)).collect();
            let operation = |&node: &usize| self.nodes[node].op_type();
            let custom_ops = group.iter().filter(|node| operation(node) != RESHAPE).count();
            if custom_ops < 2 || !group.iter().any(|node| operation(node) == PACKED_MATMUL.name) {
                continue;
            }
            if let Some(subgraph) = self.fused_node(&group) {
                subgraphs.push(subgraph);
                removed.extend(group);
                fused += custom_ops;
            }
        }
        if fused > 0 {
            let mut number = 0..;
            self.nodes
                .retain(|_| number.next().is_none_or(|number| !removed.contains(&number)));
            self.nodes.append(&mut subgraphs);
            self.clean_up();
        }
        fused
    }

    /// The level of each node that can be fused: nodes of the same level depend on each other only directly, so that
    /// they can form one subgraph.
    fn levels(&self) -> Vec<Option<usize>> {
        let (rows, sizes) = (self.rows(), self.constant_sizes());
        let outputs: HashSet<&str> = self.outputs.iter().map(|output| output.name()).collect();
        let index = self.index();
        let single_row = self.single_row_matmuls();
        let can_fuse = |(number, node): (usize, &NodeProto)| {
            let is_rows = |index: usize| node.input.get(index).is_some_and(|name| rows.contains(name.as_str()));
            let schema = ops::schema(node.op_type()).filter(|_| node.domain() == DOMAIN);
            match schema.map(|op| op.fuses) {
                Some(Rows::Always) => true,
                Some(Rows::IfInput) => is_rows(0) || single_row.contains(&number),
                Some(Rows::Never) => false,
                None => node.op_type() == RESHAPE && is_rows(0) && width(node, &sizes).is_some(),
            }
        };
        let mut can_fuse: Vec<bool> = self.nodes.iter().enumerate().map(can_fuse).collect();
        loop {
            let levels = self.levels_of(&can_fuse);
            // All consumers of reshaped rows must be in the same subgraph.
            let stays_inside = |number: &usize| {
                let is_inside = |user: &usize| levels[*user] == levels[*number];
                self.nodes[*number].output.iter().all(|name| {
                    let users = index.consumers(name);
                    !outputs.contains(name.as_str()) && users.iter().all(is_inside)
                })
            };
            let mut reshapes =
                (0..can_fuse.len()).filter(|&number| can_fuse[number] && self.nodes[number].op_type() == RESHAPE);
            match reshapes.find(|number| !stays_inside(number)) {
                Some(number) => can_fuse[number] = false,
                None => return levels,
            }
        }
    }

    /// The numbers of matrix products with a single row as input, of any rank, whose consumers do not depend on the
    /// rank of the result. These are the products of a prediction network.
    fn single_row_matmuls(&self) -> HashSet<usize> {
        let nodes = || self.nodes.iter().enumerate();
        let is_row = |input: &&ValueInfoProto| {
            let dims = tensor_info(input).dims;
            dims.split_last()
                .is_some_and(|(_, rest)| rest.iter().all(|dim| *dim == Some(1)))
        };
        let inputs = self.inputs.iter().filter(is_row).map(|input| input.name());
        let cells = nodes().filter(|(_, node)| node.op_type() == LSTM_CELL.name);
        let states = cells.flat_map(|(_, node)| &node.output).map(String::as_str);
        let rows: HashSet<&str> = inputs.chain(states).collect();

        let depends_on_rank =
            |(_, node): &(usize, &NodeProto)| ![JOINT_ADD_RELU.name, LSTM_CELL.name].contains(&node.op_type());
        let read = nodes().filter(depends_on_rank).flat_map(|(_, node)| &node.input);
        let declared = self
            .outputs
            .iter()
            .filter(|output| !tensor_info(output).dims.is_empty());
        let ranked: HashSet<&str> = read
            .map(String::as_str)
            .chain(declared.map(|output| output.name()))
            .collect();
        let is_free = |node: &NodeProto| {
            let mut input = node.input.iter().take(1);
            let mut outputs = node.output.iter();
            input.all(|input| rows.contains(input.as_str())) && outputs.all(|output| !ranked.contains(output.as_str()))
        };
        let products = nodes().filter(|(_, node)| node.op_type() == PACKED_MATMUL.name && is_free(node));
        products.map(|(number, _)| number).collect()
    }

    /// The levels of the nodes that can be fused. A node that depends on another one through nodes that cannot be fused
    /// has a higher level.
    fn levels_of(&self, can_fuse: &[bool]) -> Vec<Option<usize>> {
        // For each value, the level of its producer, and whether that can be fused.
        let mut producers: HashMap<&str, (usize, bool)> = HashMap::new();
        let mut levels = Vec::new();
        for (node, &can_fuse) in self.nodes.iter().zip(can_fuse) {
            let after = |input: &String| match producers.get(input.as_str()) {
                Some(&(level, true)) if !can_fuse => level + 1,
                Some(&(level, _)) => level,
                None => 0,
            };
            let level = node.input.iter().map(after).max().unwrap_or(0);
            producers.extend(node.output.iter().map(|output| (output.as_str(), (level, can_fuse))));
            levels.push(can_fuse.then_some(level));
        }
        levels
    }

    /// The constants with two integers: target shapes of reshapes to 2-D.
    fn constant_sizes(&self) -> HashMap<&str, [i64; 2]> {
        let pairs = self.initializers.iter().filter(|weight| weight.dims == [2]);
        let pairs = pairs.filter_map(|weight| Some((weight.name(), integers(weight)?.try_into().ok()?)));
        pairs.collect()
    }

    /// The fused subgraph of the nodes `group`.
    fn fused_node(&self, group: &[usize]) -> Option<NodeProto> {
        let nodes: Vec<&NodeProto> = group.iter().map(|&number| &self.nodes[number]).collect();
        let sizes = self.constant_sizes();
        let computed: HashSet<&str> = nodes.iter().flat_map(|node| &node.output).map(String::as_str).collect();
        let in_group: HashSet<usize> = group.iter().copied().collect();
        let others = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(number, _)| !in_group.contains(number));
        let used_elsewhere = others.flat_map(|(_, node)| &node.input).map(String::as_str);
        let used_elsewhere: HashSet<&str> = used_elsewhere
            .chain(self.outputs.iter().map(|output| output.name()))
            .collect();

        let mut numbers: HashMap<&str, usize> = HashMap::new();
        let mut inputs = Vec::new();
        for node in &nodes {
            // The shape of a reshape is an attribute of its call.
            let count = if node.op_type() == RESHAPE { 1 } else { node.input.len() };
            for input in node
                .input
                .iter()
                .take(count)
                .filter(|input| !computed.contains(input.as_str()))
            {
                numbers.entry(input).or_insert_with(|| {
                    inputs.push(input.clone());
                    inputs.len() - 1
                });
            }
        }
        let mut next = inputs.len()..;
        let declared = self.outputs.iter();
        let declared: HashMap<&str, usize> = declared
            .map(|output| (output.name(), tensor_info(output).dims.len()))
            .collect();
        let (mut outputs, mut axes, mut names, mut calls) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for node in &nodes {
            let inputs = node
                .input
                .iter()
                .filter_map(|input| numbers.get(input.as_str()).copied());
            let mut call = SubgraphCall {
                operation: node.op_type().into(),
                inputs: inputs.collect(),
                outputs: Vec::new(),
                attributes: node.attribute.iter().filter_map(attribute_value).collect(),
            };
            if node.op_type() == RESHAPE {
                call.inputs.truncate(1);
                call.attributes = BTreeMap::from([(WIDTH.into(), AttributeValue::Int(width(node, &sizes)?))]);
            }
            for (index, output) in node.output.iter().enumerate() {
                let number = next.next()?;
                numbers.insert(output, number);
                call.outputs.push(number);
                if used_elsewhere.contains(output.as_str()) {
                    outputs.push(number as i64);
                    let is_rows = ops::schema(node.op_type()).is_none_or(|op| op.rows != Rows::Never);
                    let known = if index == 0 && is_rows { 2 } else { 0 };
                    axes.push(declared.get(output.as_str()).map_or(known, |&axes| axes as i64));
                    names.push(output.clone());
                }
            }
            calls.push(call);
        }
        let attribute = |name: &str, kind: AttributeType| AttributeProto {
            name: Some(name.into()),
            r#type: Some(kind as i32),
            ..Default::default()
        };
        Some(NodeProto {
            op_type: Some(FUSED_SUBGRAPH.into()),
            domain: Some(DOMAIN.into()),
            name: nodes.first().map(|node| format!("fused from {}", node.name())),
            input: inputs,
            output: names,
            attribute: vec![
                AttributeProto {
                    s: Some(serde_json::to_vec(&calls).ok()?.into()),
                    ..attribute(CALLS, AttributeType::String)
                },
                AttributeProto {
                    ints: outputs,
                    ..attribute(OUTPUTS, AttributeType::Ints)
                },
                AttributeProto {
                    ints: axes,
                    ..attribute(AXES, AttributeType::Ints)
                },
            ],
            ..Default::default()
        })
    }
}

pub(crate) fn attribute_value(attribute: &AttributeProto) -> Option<(String, AttributeValue)> {
    let value = match attribute.r#type() {
        AttributeType::Int => AttributeValue::Int(attribute.i()),
        AttributeType::Ints => AttributeValue::Ints(attribute.ints.clone()),
        AttributeType::Float => AttributeValue::Float(attribute.f()),
        _ => return None,
    };
    Some((attribute.name().into(), value))
}

/// The width of the rows to which a node reshapes, if its target shape is constant and 2-D.
fn width(node: &NodeProto, sizes: &HashMap<&str, [i64; 2]>) -> Option<i64> {
    let [_, width] = *sizes.get(node.input.get(1)?.as_str())?;
    (width > 0).then_some(width)
}

#[cfg(test)]
mod tests;

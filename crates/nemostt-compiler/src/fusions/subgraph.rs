// SPDX-License-Identifier: MIT OR Apache-2.0

//! Operations of ours that follow each other, as one: a processor's threads then go from one to the next by themselves, where
//! ONNX Runtime calls them together and sends them away for each (300 times in a step of 17 layers).

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::onnx::types::{integers, tensor_info};
use crate::{
    Graph, NodeProto, ValueInfoProto,
    onnx::{AttributeProto, attribute_proto::AttributeType},
    ops::{self, DOMAIN, JOINT_ADD_RELU, LSTM_CELL, PACKED_MATMUL, Rows, WIDTH},
};

/// The operation. Inputs: whatever its calls take; outputs, all float32: values of them. Attributes [`CALLS`],
/// [`OUTPUTS`] and [`AXES`].
pub const FUSED_SUBGRAPH: &str = "FusedSubgraph";

/// The calls, a list of [`SubgraphCall`] in JSON.
pub const CALLS: &str = "calls";

/// The numbers of the values that are outputs.
pub const OUTPUTS: &str = "outputs";

/// How many axes each of them has, or 0 where that is not known.
pub const AXES: &str = "axes";

/// The call that makes other rows of the same values; its one attribute is [`WIDTH`].
pub const RESHAPE: &str = "Reshape";

/// A call of an operation in a fused subgraph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubgraphCall {
    /// The operator of the node that it was.
    pub operation: String,
    /// Numbers of the values it reads: first the inputs of the subgraph in order, then the outputs of the calls.
    pub inputs: Vec<usize>,
    /// Numbers of the values it writes.
    pub outputs: Vec<usize>,
    /// Attributes of the node.
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
    /// Makes chains of our operations, wherever two or more of them, one of them a product, can be done one after the other
    /// with nothing else between them. Gives how many operations are in chains.
    pub fn fuse_subgraphs(&mut self) -> usize {
        let levels = self.levels();
        let most = levels.iter().flatten().max().copied().unwrap_or(0);
        let mut fused_node = 0;
        let mut chains = Vec::new();
        let mut gone = HashSet::new();
        for level in 0..=most {
            let members: Vec<usize> = (0..levels.len()).filter(|&node| levels[node] == Some(level)).collect();
            let operation = |&member: &usize| self.nodes[member].op_type();
            let ours = members.iter().filter(|member| operation(member) != RESHAPE).count();
            if ours < 2 || !members.iter().any(|member| operation(member) == PACKED_MATMUL.name) {
                continue;
            }
            if let Some(chain) = self.fused_node(&members) {
                chains.push(chain);
                gone.extend(members);
                fused_node += ours;
            }
        }
        if fused_node > 0 {
            let mut number = 0..;
            self.nodes
                .retain(|_| number.next().is_none_or(|number| !gone.contains(&number)));
            self.nodes.append(&mut chains);
            self.clean_up();
        }
        fused_node
    }

    /// For each node that may be in a chain, in which: those of one level depend on each other directly only.
    fn levels(&self) -> Vec<Option<usize>> {
        let (rows, sizes) = (self.rows(), self.constant_sizes());
        let outputs: HashSet<&str> = self.outputs.iter().map(|output| output.name()).collect();
        let index = self.index();
        let of_a_row = self.single_row_matmuls();
        let may = |(number, node): (usize, &NodeProto)| {
            let is_rows = |index: usize| node.input.get(index).is_some_and(|name| rows.contains(name.as_str()));
            let schema = ops::schema(node.op_type()).filter(|_| node.domain() == DOMAIN);
            match schema.map(|op| op.fuses) {
                Some(Rows::Always) => true,
                Some(Rows::IfInput) => is_rows(0) || of_a_row.contains(&number),
                Some(Rows::Never) => false,
                None => node.op_type() == RESHAPE && is_rows(0) && width(node, &sizes).is_some(),
            }
        };
        let mut may: Vec<bool> = self.nodes.iter().enumerate().map(may).collect();
        loop {
            let levels = self.levels_of(&may);
            // Who takes rows in another shape must be in the same chain.
            let inside = |number: &usize| {
                let takes = |user: &usize| levels[*user] == levels[*number];
                self.nodes[*number].output.iter().all(|name| {
                    let users = index.consumers(name);
                    !outputs.contains(name.as_str()) && users.iter().all(takes)
                })
            };
            let mut reshapes = (0..may.len()).filter(|&number| may[number] && self.nodes[number].op_type() == RESHAPE);
            match reshapes.find(|number| !inside(number)) {
                Some(number) => may[number] = false,
                None => return levels,
            }
        }
    }

    /// The numbers of products of one row, in however many axes, for someone who does not ask in how many axes the result is:
    /// those of what goes from label to label in a prediction network.
    fn single_row_matmuls(&self) -> HashSet<usize> {
        let nodes = || self.nodes.iter().enumerate();
        let is_row = |input: &&ValueInfoProto| {
            let dims = tensor_info(input).dims;
            dims.split_last()
                .is_some_and(|(_, rest)| rest.iter().all(|dim| *dim == Some(1)))
        };
        let inputs = self.inputs.iter().filter(is_row).map(|input| input.name());
        let gates = nodes().filter(|(_, node)| node.op_type() == LSTM_CELL.name);
        let states = gates.flat_map(|(_, node)| &node.output).map(String::as_str);
        let rows: HashSet<&str> = inputs.chain(states).collect();

        let askers = nodes().filter(|(_, node)| ![JOINT_ADD_RELU.name, LSTM_CELL.name].contains(&node.op_type()));
        let asked = askers.flat_map(|(_, node)| &node.input).map(String::as_str);
        let declared = self
            .outputs
            .iter()
            .filter(|output| !tensor_info(output).dims.is_empty());
        let asked: HashSet<&str> = asked.chain(declared.map(|output| output.name())).collect();
        let is_free = |node: &NodeProto| {
            let mut input = node.input.iter().take(1);
            let mut outputs = node.output.iter();
            input.all(|input| rows.contains(input.as_str())) && outputs.all(|output| !asked.contains(output.as_str()))
        };
        let products = nodes().filter(|(_, node)| node.op_type() == PACKED_MATMUL.name && is_free(node));
        products.map(|(number, _)| number).collect()
    }

    /// The levels of the nodes that may be in a chain: one that depends on a node of a chain only by way of others is in a
    /// later one.
    fn levels_of(&self, may: &[bool]) -> Vec<Option<usize>> {
        // Of the values: the level of what makes them, and whether that may be in a chain.
        let mut made: HashMap<&str, (usize, bool)> = HashMap::new();
        let mut levels = Vec::new();
        for (node, &may) in self.nodes.iter().zip(may) {
            let after = |input: &String| match made.get(input.as_str()) {
                Some(&(level, true)) if !may => level + 1,
                Some(&(level, _)) => level,
                None => 0,
            };
            let level = node.input.iter().map(after).max().unwrap_or(0);
            made.extend(node.output.iter().map(|output| (output.as_str(), (level, may))));
            levels.push(may.then_some(level));
        }
        levels
    }

    /// The values of constants that say two sizes.
    fn constant_sizes(&self) -> HashMap<&str, [i64; 2]> {
        let pairs = self.initializers.iter().filter(|weight| weight.dims == [2]);
        let pairs = pairs.filter_map(|weight| Some((weight.name(), integers(weight)?.try_into().ok()?)));
        pairs.collect()
    }

    /// These nodes as one.
    fn fused_node(&self, members: &[usize]) -> Option<NodeProto> {
        let nodes: Vec<&NodeProto> = members.iter().map(|&member| &self.nodes[member]).collect();
        let sizes = self.constant_sizes();
        let made: HashSet<&str> = nodes.iter().flat_map(|node| &node.output).map(String::as_str).collect();
        let is_member: HashSet<usize> = members.iter().copied().collect();
        let others = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(number, _)| !is_member.contains(number));
        let taken = others.flat_map(|(_, node)| &node.input).map(String::as_str);
        let taken: HashSet<&str> = taken.chain(self.outputs.iter().map(|output| output.name())).collect();

        let mut numbers: HashMap<&str, usize> = HashMap::new();
        let mut inputs = Vec::new();
        for node in &nodes {
            let real = if node.op_type() == RESHAPE { 1 } else { node.input.len() };
            for input in node
                .input
                .iter()
                .take(real)
                .filter(|input| !made.contains(input.as_str()))
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
                if taken.contains(output.as_str()) {
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
            name: nodes.first().map(|node| format!("chain of {}", node.name())),
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

fn attribute_value(attribute: &AttributeProto) -> Option<(String, AttributeValue)> {
    let value = match attribute.r#type() {
        AttributeType::Int => AttributeValue::Int(attribute.i()),
        AttributeType::Ints => AttributeValue::Ints(attribute.ints.clone()),
        AttributeType::Float => AttributeValue::Float(attribute.f()),
        _ => return None,
    };
    Some((attribute.name().into(), value))
}

/// The last size that a node gives its input, if that and one more are fixed.
fn width(node: &NodeProto, sizes: &HashMap<&str, [i64; 2]>) -> Option<i64> {
    let [_, width] = *sizes.get(node.input.get(1)?.as_str())?;
    (width > 0).then_some(width)
}

#[cfg(test)]
mod tests;

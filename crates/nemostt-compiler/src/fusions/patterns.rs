// SPDX-License-Identifier: MIT OR Apache-2.0

//! Matching of node patterns, and adding of custom operations.

use crate::{
    Graph, NodeProto,
    ir::{attribute::Attribute, constant::attribute_list, def_use::DefUse},
    ops::DOMAIN,
};

/// Adds a node with one of our custom operations.
pub(super) fn add(
    graph: &mut Graph,
    operation: &str,
    outputs: &[&str],
    inputs: &[&str],
    attributes: &[(&str, Attribute<'_>)],
) {
    let outputs: Vec<String> = outputs.iter().map(|&output| output.into()).collect();
    graph.add_node(&outputs, operation, inputs, attributes);
    if let Some(node) = graph.nodes.last_mut() {
        node.domain = Some(DOMAIN.into());
    }
}

/// Follows the edges of a graph from node to node.
pub(super) struct PatternMatcher<'a> {
    pub(super) graph: &'a Graph,
    pub(super) index: &'a DefUse,
}

impl<'a> PatternMatcher<'a> {
    /// The producer of `name`, if it is an `operation`.
    pub(super) fn produced_by(&self, name: &str, operation: &str) -> Option<&'a NodeProto> {
        let node = &self.graph.nodes[self.index.producer(name)?];
        (node.op_type() == operation).then_some(node)
    }

    /// The only consumer of `name`, if it is an `operation`.
    pub(super) fn consumed_by(&self, name: &str, operation: &str) -> Option<usize> {
        let user = self.index.single_consumer(name)?;
        (self.graph.nodes[user].op_type() == operation).then_some(user)
    }

    /// Of a node with two inputs: the producer of one input, if it is an `operation`, and the other input.
    pub(super) fn operand_produced_by(
        &self,
        node: &'a NodeProto,
        operation: &str,
    ) -> Option<(&'a NodeProto, &'a String)> {
        let [a, b] = &node.input[..] else { return None };
        let first = self.produced_by(a, operation).map(|producer| (producer, b));
        first.or_else(|| self.produced_by(b, operation).map(|producer| (producer, a)))
    }

    /// The tensor of which `name` is the transpose by `axes`.
    pub(super) fn transpose_input(&self, name: &str, axes: &[i64]) -> Option<&'a String> {
        let node = self.produced_by(name, "Transpose")?;
        (attribute_list(node, "perm")? == axes).then_some(&node.input[0])
    }

    /// Whether `name` depends on an input of the graph.
    pub(super) fn depends_on_input(&self, name: &str) -> bool {
        match self.index.producer(name) {
            Some(producer) => self.graph.nodes[producer]
                .input
                .iter()
                .any(|input| self.depends_on_input(input)),
            None => !self.graph.is_constant(name),
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! What fusions look for in a graph, and how they add operations.

use crate::{
    Graph, NodeProto,
    ir::{attribute::Attribute, constant::attribute_list, def_use::DefUse},
    ops::DOMAIN,
};

/// Adds one of our operations.
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

/// Ways through a graph, node by node.
pub(super) struct PatternMatcher<'a> {
    pub(super) graph: &'a Graph,
    pub(super) index: &'a DefUse,
}

impl<'a> PatternMatcher<'a> {
    /// The node that makes `name`, if it does `operation`.
    pub(super) fn produced_by(&self, name: &str, operation: &str) -> Option<&'a NodeProto> {
        let node = &self.graph.nodes[self.index.producer(name)?];
        (node.op_type() == operation).then_some(node)
    }

    /// The one node that takes `name`, if it does `operation`.
    pub(super) fn consumed_by(&self, name: &str, operation: &str) -> Option<usize> {
        let user = self.index.single_consumer(name)?;
        (self.graph.nodes[user].op_type() == operation).then_some(user)
    }

    /// The one of two inputs that is made by `operation`, and the other one.
    pub(super) fn operand_produced_by(
        &self,
        node: &'a NodeProto,
        operation: &str,
    ) -> Option<(&'a NodeProto, &'a String)> {
        let [a, b] = &node.input[..] else { return None };
        let first = self.produced_by(a, operation).map(|made| (made, b));
        first.or_else(|| self.produced_by(b, operation).map(|made| (made, a)))
    }

    /// What is turned by `axes` to `name`.
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

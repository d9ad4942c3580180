// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which node produces a tensor and which consume it.

use std::collections::HashMap;

use crate::{Graph, NodeProto, ir::boundary::visit};

/// Producer and consumers of each tensor, as indices into [`Graph::nodes`]. Invalidated when nodes are added or
/// removed.
pub(crate) struct DefUse {
    producers: HashMap<String, usize>,
    consumers: HashMap<String, Vec<usize>>,
}

impl Graph {
    /// Producers and consumers of all tensors, including uses in subgraphs of nodes.
    pub(crate) fn index(&self) -> DefUse {
        let mut index = DefUse {
            producers: HashMap::new(),
            consumers: HashMap::new(),
        };
        for (number, node) in self.nodes.iter().enumerate() {
            // An empty name stands for an omitted input or output.
            for name in node.output.iter().filter(|name| !name.is_empty()) {
                index.producers.insert(name.clone(), number);
            }
            visit(node, &mut |name| {
                if !name.is_empty() {
                    index.consumers.entry(name.to_owned()).or_default().push(number);
                }
            });
        }
        // An output of the graph has a consumer outside of it.
        for output in &self.outputs {
            index
                .consumers
                .entry(output.name().into())
                .or_default()
                .push(usize::MAX);
        }
        index
    }
}

impl DefUse {
    /// The nodes that read a tensor.
    pub(crate) fn readers(&self, name: &str) -> Vec<usize> {
        let consumers = self.consumers(name).iter().copied();
        consumers.filter(|&consumer| consumer != usize::MAX).collect()
    }

    pub(crate) fn producer(&self, name: &str) -> Option<usize> {
        self.producers.get(name).copied()
    }

    /// The node of `graph` that produces a tensor.
    pub(crate) fn node<'a>(&self, graph: &'a Graph, name: &str) -> Option<&'a NodeProto> {
        graph.nodes.get(self.producer(name)?)
    }

    /// Indices of the consumers; `usize::MAX` stands for the caller of the graph.
    pub(crate) fn consumers(&self, name: &str) -> &[usize] {
        self.consumers.get(name).map_or(&[], Vec::as_slice)
    }

    /// The only consumer of `name`, if there is exactly one and it is a node.
    pub(crate) fn single_consumer(&self, name: &str) -> Option<usize> {
        match self.consumers(name) {
            [user] if *user != usize::MAX => Some(*user),
            _ => None,
        }
    }
}

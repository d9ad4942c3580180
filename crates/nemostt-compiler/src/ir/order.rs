// SPDX-License-Identifier: MIT OR Apache-2.0

//! Topological sorting, and dead code elimination.

use std::collections::HashSet;

use crate::{Graph, NodeProto, ir::boundary::visit};

impl Graph {
    /// Removes everything that no output depends on, and sorts nodes topologically.
    pub(crate) fn clean_up(&mut self) {
        self.remove_dead();
        let _ = self.sort(); // validation rejects cycles, and no pass creates one
        self.remove_unused_initializers();
        // Recorded shapes may refer to dynamic dimensions.
        self.rest.value_info.clear();
    }

    /// Removes nodes, initializers and inputs that no output depends on.
    pub(crate) fn prune(&mut self) {
        self.remove_dead();
        let needed = self.needed();
        let is_needed: Vec<bool> = self.inputs.iter().map(|input| needed.contains(input.name())).collect();
        let mut is_needed = is_needed.into_iter();
        self.inputs.retain(|_| is_needed.next().unwrap_or(true));
        self.remove_unused_initializers();
    }

    /// Names that are used by nodes and outputs.
    fn needed(&self) -> HashSet<&str> {
        let mut needed: HashSet<&str> = self.outputs.iter().map(|output| output.name()).collect();
        for node in &self.nodes {
            visit(node, &mut |name| {
                needed.insert(name);
            });
        }
        needed
    }

    pub(crate) fn remove_unused_initializers(&mut self) {
        let needed: HashSet<String> = self.needed().into_iter().map(Into::into).collect();
        self.initializers.retain(|weight| needed.contains(weight.name()));
    }

    /// Removes the nodes that no output depends on.
    pub(crate) fn remove_dead(&mut self) {
        let index = self.index();
        let mut alive = vec![false; self.nodes.len()];
        let mut open: Vec<usize> = self
            .outputs
            .iter()
            .filter_map(|output| index.producer(output.name()))
            .collect();
        while let Some(number) = open.pop() {
            if !std::mem::replace(&mut alive[number], true) {
                // The branches and loops of a node can read tensors of the graph around it.
                visit(&self.nodes[number], &mut |name| open.extend(index.producer(name)));
            }
        }
        let mut alive = alive.into_iter();
        self.nodes.retain(|_| alive.next().unwrap_or(true));
    }

    /// Sorts nodes topologically, as ONNX requires. `None` if there is a cycle.
    pub(crate) fn sort(&mut self) -> Option<()> {
        #[derive(Clone, Copy, PartialEq)]
        enum State {
            Unvisited,
            Visiting,
            Sorted,
        }
        let index = self.index();
        let mut order = Vec::with_capacity(self.nodes.len());
        let mut states = vec![State::Unvisited; self.nodes.len()];
        for first in 0..self.nodes.len() {
            let mut stack = vec![(first, false)];
            while let Some((number, ready)) = stack.pop() {
                if ready {
                    states[number] = State::Sorted;
                    order.push(number);
                    continue;
                }
                if states[number] != State::Unvisited {
                    continue;
                }
                states[number] = State::Visiting;
                stack.push((number, true));
                let mut producers = Vec::new();
                visit(&self.nodes[number], &mut |name| producers.extend(index.producer(name)));
                for producer in producers {
                    match states[producer] {
                        State::Unvisited => stack.push((producer, false)),
                        // A subgraph may have a tensor with the name of its own node's output.
                        State::Visiting if producer == number => {}
                        State::Visiting => return None,
                        State::Sorted => {}
                    }
                }
            }
        }
        let mut nodes: Vec<Option<NodeProto>> = std::mem::take(&mut self.nodes).into_iter().map(Some).collect();
        self.nodes = order.into_iter().filter_map(|number| nodes[number].take()).collect();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Graph, NodeProto,
        onnx::{AttributeProto, GraphProto, ValueInfoProto},
    };

    fn node(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
        NodeProto {
            op_type: Some(operator.into()),
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: vec![output.into()],
            ..Default::default()
        }
    }

    fn info(name: &str) -> ValueInfoProto {
        ValueInfoProto {
            name: Some(name.into()),
            ..Default::default()
        }
    }

    /// `y` is the output of a branch that reads `outer` from the graph around it.
    fn branching(order: [usize; 3]) -> Graph {
        let mut branch = node("If", &["condition"], "y");
        branch.attribute.push(AttributeProto {
            name: Some("then_branch".into()),
            g: Some(GraphProto {
                node: vec![node("Neg", &["outer"], "inner")],
                output: vec![info("inner")],
                ..Default::default()
            }),
            ..Default::default()
        });
        let nodes = [node("Relu", &["x"], "outer"), branch, node("Relu", &["x"], "unused")];
        let graph = GraphProto {
            node: order.map(|index| nodes[index].clone()).into(),
            input: vec![info("x"), info("condition"), info("extra")],
            output: vec![info("y")],
            ..Default::default()
        };
        Graph::from_proto(Default::default(), graph)
    }

    #[test]
    fn prune_keeps_what_a_subgraph_reads() {
        let mut graph = branching([0, 1, 2]);
        graph.prune();
        assert_eq!(graph.operations().collect::<Vec<_>>(), ["Relu", "If"]);
        let inputs: Vec<String> = graph.inputs().into_iter().map(|input| input.name).collect();
        assert_eq!(inputs, ["x", "condition"]);
    }

    #[test]
    fn sort_puts_what_a_subgraph_reads_before_it() {
        let mut graph = branching([1, 2, 0]);
        assert_eq!(graph.sort(), Some(()));
        let place = |output: &str| graph.nodes.iter().position(|node| node.output[0] == output);
        assert!(place("outer") < place("y"));
    }

    #[test]
    fn omitted_inputs_and_outputs_form_no_cycle() {
        let mut first = node("LSTM", &["x", ""], "");
        first.output.push("state".into());
        let graph = GraphProto {
            node: vec![first, node("Relu", &["state"], "y")],
            output: vec![info("y")],
            ..Default::default()
        };
        let mut graph = Graph::from_proto(Default::default(), graph);
        assert_eq!(graph.sort(), Some(()));
    }
}

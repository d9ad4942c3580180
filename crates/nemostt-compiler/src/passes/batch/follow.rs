// SPDX-License-Identifier: MIT OR Apache-2.0

//! Follows the batch through a graph.

use std::collections::HashMap;

use crate::{DROP_INPUT, Graph, NodeProto, ir::attribute::Attribute, ir::constant::attribute};

/// Where the batch is in a tensor: `axis` has `inner` entries for each stream, those of the first stream first. `inner`
/// is the size of the axis in the graph for one stream: 1 if the axis is only the batch, and for example the number of
/// frames in rows \[batch · frames, width\].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) axis: usize,
    pub(super) inner: usize,
}

/// Follows the batch from node to node, and rewrites nodes that contain its size.
pub(super) struct Follower<'a> {
    pub(super) graph: &'a mut Graph,
    /// The batch of each tensor that has one. All others are the same for all streams.
    pub(super) batches: HashMap<String, Batch>,
}

impl<'a> Follower<'a> {
    /// At the inputs of `graph`, whose nodes are sorted and whose shapes are inferred.
    pub(super) fn new(graph: &'a mut Graph) -> Result<Self, String> {
        let mut batches = HashMap::new();
        for input in graph.inputs() {
            if input.dims.first() != Some(&Some(1)) {
                return Err(format!("input {} has no batch axis", input.name));
            }
            batches.insert(input.name, Batch { axis: 0, inner: 1 });
        }
        Ok(Self { graph, batches })
    }

    /// Follows it to the end.
    pub(super) fn run(&mut self) -> Result<(), String> {
        for mut node in std::mem::take(&mut self.graph.nodes) {
            let has_batch = node.input.iter().any(|input| self.batches.contains_key(input));
            if has_batch {
                let batch = self.after(&mut node).map_err(|reason| {
                    let output = node.output.first().map(String::as_str).unwrap_or_default();
                    format!("{} of {output}: {reason}", node.op_type())
                })?;
                self.batches
                    .extend(node.output.iter().map(|output| (output.clone(), batch)));
            }
            self.graph.nodes.push(node);
        }
        Ok(())
    }

    /// Whether the first axis of each output is the batch.
    pub(super) fn check_outputs(&self) -> Result<(), String> {
        let first = Batch { axis: 0, inner: 1 };
        for output in self.graph.outputs() {
            match self.batches.get(&output.name) {
                Some(batch) if *batch == first => (),
                Some(_) => return Err(format!("the batch is not the first axis of output {}", output.name)),
                None => return Err(format!("output {} is the same for all streams", output.name)),
            }
        }
        Ok(())
    }

    /// Shape of a tensor in the graph for one stream.
    pub(super) fn dims(&self, name: &str) -> Result<Vec<usize>, String> {
        let dims = self.graph.shape(name).map(<[usize]>::to_vec);
        dims.ok_or_else(|| format!("the shape of {name} is not known"))
    }

    /// The batch of input `number`, if it has one.
    pub(super) fn batch(&self, node: &NodeProto, number: usize) -> Option<Batch> {
        self.batches.get(node.input.get(number)?).copied()
    }
}

/// Lets each stream drop as many frames as it says. The frames of a chunk are selected with `Gather`, by the sum of input
/// [`DROP_INPUT`] and the numbers from 0, which are the same for all rows of a batch; here `GatherND` gets those of each
/// row.
pub(super) fn select_frames_by_stream(graph: &mut Graph) {
    let index = graph.index();
    let found = graph.find_all(&index, |graph, index, number| {
        let gather = &graph.nodes[number];
        let ("Gather", [data, frames]) = (gather.op_type(), &gather.input[..]) else {
            return None;
        };
        let sum = index.node(graph, frames).filter(|sum| sum.op_type() == "Add")?;
        let offsets = sum.input.iter().find(|input| *input != DROP_INPUT)?;
        let &[chunk] = graph.shape(offsets).filter(|_| graph.is_constant(offsets))? else {
            return None;
        };
        let is_selection = sum.input.iter().any(|input| input == DROP_INPUT) && attribute(gather, "axis") == Some(1);
        let mut dims = graph.shape(data)?.to_vec();
        *dims.get_mut(1)? = chunk;
        is_selection.then(|| (number, data.clone(), offsets.clone(), dims))
    });
    for (number, data, offsets, dims) in found {
        let output = graph.nodes[number].output[0].clone();
        graph.detach(number);
        let [second, third] = [1, 2].map(|axis| graph.add_ints(&[axis]));
        let drop = graph.add("Unsqueeze", &[DROP_INPUT, &second], &[]);
        let frames = graph.add("Add", &[&drop, &offsets], &[]);
        let frames = graph.add("Unsqueeze", &[&frames, &third], &[]);
        graph.add_as(
            &output,
            "GatherND",
            &[&data, &frames],
            &[("batch_dims", Attribute::Int(1))],
        );
        graph.shapes.insert(output, dims);
    }
}

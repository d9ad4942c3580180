// SPDX-License-Identifier: MIT OR Apache-2.0

//! Attention as one operation of our own.
//!
//! What `attention.rs`, `positions.rs` and `masks.rs` leave of a layer's attention between its products are 20 nodes of a few
//! microseconds each, a quarter of a step's time. [`crate::kernels::attention`] does what they do, in one pass for each head.

use super::{
    net::{Attribute, Index, Net},
    value::{attribute, attribute_list},
};
use crate::graph::{Graph, NodeProto};

/// The operation. Inputs: queries \[frames, width\], cached and new keys, cached and new values \[1, heads, …, width of a head\],
/// mask \[1, 1, frames, keys\]; constants: the two biases \[heads, width of a head\], positions \[1, heads, width of a head,
/// positions\], places \[frames, keys\]. Output \[frames, width\]. Attribute [`SCALE`].
pub(crate) const ATTENTION: &str = "Attention";

/// What scores are divided by.
pub(crate) const SCALE: &str = "scale";

impl Graph {
    /// Makes each layer's attention one operation, and gives the number of layers. The graph, which must be planned, then
    /// runs only where that operation is known.
    pub(crate) fn fuse_attention(&mut self) -> usize {
        let mut net = Net::take(self);
        let index = net.index();
        let found: Vec<Found> = (0..net.nodes.len())
            .filter_map(|number| find(&net, &index, number))
            .collect();
        for found in &found {
            let unused = net.new_name("unused");
            net.nodes[found.last].output[0] = unused;
            let inputs: Vec<&str> = found.inputs.iter().map(String::as_str).collect();
            let scale = [(SCALE, Attribute::Float(found.scale))];
            net.add_as(&found.output, ATTENTION, &inputs, &scale);
            if let Some(node) = net.nodes.last_mut() {
                node.domain = Some(super::super::pack::DOMAIN.into());
            }
        }
        net.give_back(self);
        if !found.is_empty() {
            self.import(super::super::pack::DOMAIN);
        }
        found.len()
    }
}

struct Found {
    inputs: Vec<String>,
    scale: f32,
    /// The node that gives `output`, rows of all heads side by side.
    last: usize,
    output: String,
}

fn find(net: &Net, index: &Index, number: usize) -> Option<Found> {
    let softmax = &net.nodes[number];
    let last_axis = matches!(attribute(softmax, "axis"), None | Some(-1 | 3));
    if softmax.op_type() != "Softmax" || !last_axis {
        return None;
    }
    let walk = Walk { net, index };
    let masked = walk.made(&softmax.input[0], "Add")?;
    let (divided, mask) = walk.one_made(masked, "Div")?;
    let scale = net.value(&divided.input[1])?.floats()?;
    let &[scale] = &scale[..] else { return None };
    let scores = walk.made(&divided.input[0], "Add")?;
    let (joined, shifted) = walk.one_made(scores, "Concat")?;
    let gather = walk.made(shifted, "Gather")?;

    // Contents.
    if attribute(joined, "axis") != Some(3) || attribute(gather, "axis") != Some(2) {
        return None;
    }
    let [old, new] = &joined.input[..] else { return None };
    let [old, new] = [walk.made(old, "MatMul")?, walk.made(new, "MatMul")?];
    let [old_keys, new_keys] = [old, new].map(|product| walk.turned(&product.input[1], &[0, 1, 3, 2]));
    let (old_keys, new_keys) = (old_keys?, new_keys?);
    let (queries, bias_u) = walk.query(&old.input[0])?;
    if old.input[0] != new.input[0] {
        return None;
    }

    // Positions.
    let places = &gather.input[1];
    let &[frames, keys] = net.shape(places).filter(|_| net.is_constant(places))? else {
        return None;
    };
    let by_position = walk.made(&walk.made(&gather.input[0], "Reshape")?.input[0], "MatMul")?;
    let (same_queries, bias_v) = walk.query(&by_position.input[0])?;
    let positions = &by_position.input[1];
    let of_biases = [&bias_u, &bias_v].map(|bias| net.shape(bias));
    let &[heads, width] = of_biases[0]? else { return None };
    if same_queries != queries || of_biases[1] != of_biases[0] || walk.varies(positions) {
        return None;
    }

    // Values.
    let split = walk.taken(&softmax.output[0], "Split")?;
    let sizes = net.value(net.nodes[split].input.get(1)?)?.ints()?;
    let [old_weights, new_weights] = &net.nodes[split].output[..] else {
        return None;
    };
    let parts = [walk.taken(old_weights, "MatMul")?, walk.taken(new_weights, "MatMul")?];
    let [old_part, new_part] = parts.map(|part| &net.nodes[part]);
    let sum = walk.taken(&old_part.output[0], "Add")?;
    let turned = walk.taken(&net.nodes[sum].output[0], "Transpose")?;
    let mut last = walk.taken(&net.nodes[turned].output[0], "Reshape")?;
    let rows = [frames as i64, (heads * width) as i64];
    let sizes_of = |reshape: usize| net.value(&net.nodes[reshape].input[1])?.ints();
    if sizes_of(last)? != rows {
        // First with a batch axis, then without.
        last = walk.taken(&net.nodes[last].output[0], "Reshape")?;
    }
    let of_parts = [new_part.output[0].as_str(), old_part.output[0].as_str()];
    let sums_both = of_parts
        .iter()
        .all(|part| net.nodes[sum].input.iter().any(|input| input == part));
    let right = sums_both
        && attribute(&net.nodes[split], "axis") == Some(3)
        && sizes == [(keys.checked_sub(frames)?) as i64, frames as i64]
        && old_part.input[0] == *old_weights
        && new_part.input[0] == *new_weights
        && attribute_list(&net.nodes[turned], "perm")? == [0, 2, 1, 3]
        && sizes_of(last)? == rows;
    let inputs = [
        &queries,
        old_keys,
        new_keys,
        &old_part.input[1],
        &new_part.input[1],
        mask,
        &bias_u,
        &bias_v,
        positions,
        places,
    ];
    right.then(|| Found {
        inputs: inputs.map(String::clone).into(),
        scale,
        last,
        output: net.nodes[last].output[0].clone(),
    })
}

/// Ways through a graph, node by node.
struct Walk<'a> {
    net: &'a Net,
    index: &'a Index,
}

impl<'a> Walk<'a> {
    /// The node that makes `name`, if it does `operation`.
    fn made(&self, name: &str, operation: &str) -> Option<&'a NodeProto> {
        let node = &self.net.nodes[self.index.maker(name)?];
        (node.op_type() == operation).then_some(node)
    }

    /// The one node that takes `name`, if it does `operation`.
    fn taken(&self, name: &str, operation: &str) -> Option<usize> {
        let user = self.index.only_user(name)?;
        (self.net.nodes[user].op_type() == operation).then_some(user)
    }

    /// The one of two inputs that is made by `operation`, and the other one.
    fn one_made(&self, node: &'a NodeProto, operation: &str) -> Option<(&'a NodeProto, &'a String)> {
        let [a, b] = &node.input[..] else { return None };
        let first = self.made(a, operation).map(|made| (made, b));
        first.or_else(|| self.made(b, operation).map(|made| (made, a)))
    }

    /// What is turned by `axes` to `name`.
    fn turned(&self, name: &str, axes: &[i64]) -> Option<&'a String> {
        let node = self.made(name, "Transpose")?;
        (attribute_list(node, "perm")? == axes).then_some(&node.input[0])
    }

    /// Queries and what was added to them, from `Transpose(Reshape(queries) + bias)`.
    fn query(&self, name: &str) -> Option<(String, String)> {
        let with_bias = self.made(self.turned(name, &[0, 2, 1, 3])?, "Add")?;
        let (cut, bias) = self.one_made(with_bias, "Reshape")?;
        self.net.is_constant(bias).then(|| (cut.input[0].clone(), bias.clone()))
    }

    /// Whether `name` depends on an input of the graph.
    fn varies(&self, name: &str) -> bool {
        match self.index.maker(name) {
            Some(maker) => self.net.nodes[maker].input.iter().any(|input| self.varies(input)),
            None => !self.net.is_constant(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Streaming, plan, read_file};

    #[test]
    fn every_layer_is_found() {
        for (path, lookahead) in [
            ("assets/demo-model/encoder-model.onnx", 0),
            ("assets/demo-model/encoder-model.onnx", 1),
            ("assets/demo-model/ctc.onnx", 13),
            ("tests/data/tiny_random/encoder-rnnt_la13.onnx", 6),
        ] {
            let file = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
            let mut graph = Graph::decode_file(read_file(file.as_ref()).unwrap()).unwrap();
            let streaming = Streaming::read(&graph).unwrap();
            plan(&mut graph, &streaming, lookahead).unwrap();
            assert_eq!(graph.fuse_attention(), streaming.layers, "{path}");
            let count = |operation: &str| graph.operations().filter(|&found| found == operation).count();
            assert_eq!(count(ATTENTION), streaming.layers);
            assert_eq!(count("Softmax"), 0);
            // Nothing is left of what it stands for.
            assert_eq!(graph.clone().fuse_attention(), 0);
        }
    }

    #[test]
    fn an_export_as_it_is_stays_so() {
        let file = format!("{}/assets/demo-model/encoder-model.onnx", env!("CARGO_MANIFEST_DIR"));
        let mut graph = Graph::decode_file(read_file(file.as_ref()).unwrap()).unwrap();
        let before = graph.operations().count();
        assert_eq!(graph.fuse_attention(), 0);
        assert!(graph.operations().count() <= before);
    }
}

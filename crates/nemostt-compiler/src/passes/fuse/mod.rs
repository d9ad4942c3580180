// SPDX-License-Identifier: MIT OR Apache-2.0

//! Parts of a planned graph as operations of our own.
//!
//! Between its products a layer has 40 nodes of a few microseconds each, a third of a step at lookahead 80 ms: they take
//! longer to begin than to end. [`nemostt_kernels`] does the same sums in two passes.

mod glu_depthwise_conv;
mod layer_norm;
mod rel_pos_attention;
mod strided_conv;

use std::collections::HashSet;

pub use self::{
    glu_depthwise_conv::GLU_DEPTHWISE_CONV,
    layer_norm::{EPSILON, LAYER_NORM, SILU},
    rel_pos_attention::{REL_POS_ATTENTION, RING_HEAD_INPUT, SCALE},
    strided_conv::{PADS, RELU, SHARED_INPUT, STRIDED_CONV, STRIDES},
};
use super::{
    constant::attribute_list,
    net::{Attribute, DefUse, Net},
};
use crate::{Graph, NodeProto, prepack_matmul::DOMAIN};

impl Graph {
    /// Makes each layer's attention one operation, and the middle of each convolution module, and the subsampling and
    /// normalisations ours. Gives how many there were of the first two.
    /// The graph, which must be planned, then runs only where those operations are known.
    pub fn fuse(&mut self) -> (usize, usize) {
        let mut net = Net::from_onnx(self);
        let subsampled = strided_conv::fuse(&mut net);
        let found = (rel_pos_attention::fuse(&mut net), glu_depthwise_conv::fuse(&mut net));
        let normalized = layer_norm::fuse(&mut net);
        net.into_onnx(self);
        if (found, normalized, subsampled) != ((0, 0), 0, false) {
            self.import_domain(DOMAIN);
        }
        found
    }
}

impl Graph {
    /// The caches of [`REL_POS_ATTENTION`]: inputs in which what is new goes where [`RING_HEAD_INPUT`] says.
    pub fn ring_caches(&self) -> HashSet<String> {
        let attentions = self.nodes().iter().filter(|node| node.op_type() == REL_POS_ATTENTION);
        let caches = attentions.flat_map(|node| rel_pos_attention::CACHE_INPUTS.map(|input| node.input.get(input)));
        caches.flatten().cloned().collect()
    }
}

/// Adds one of our operations.
fn add(net: &mut Net, operation: &str, outputs: &[&str], inputs: &[&str], attributes: &[(&str, Attribute<'_>)]) {
    let outputs: Vec<String> = outputs.iter().map(|&output| output.into()).collect();
    net.add_node(&outputs, operation, inputs, attributes);
    if let Some(node) = net.nodes.last_mut() {
        node.domain = Some(DOMAIN.into());
    }
}

/// Ways through a graph, node by node.
struct PatternMatcher<'a> {
    net: &'a Net,
    index: &'a DefUse,
}

impl<'a> PatternMatcher<'a> {
    /// The node that makes `name`, if it does `operation`.
    fn produced_by(&self, name: &str, operation: &str) -> Option<&'a NodeProto> {
        let node = &self.net.nodes[self.index.producer(name)?];
        (node.op_type() == operation).then_some(node)
    }

    /// The one node that takes `name`, if it does `operation`.
    fn consumed_by(&self, name: &str, operation: &str) -> Option<usize> {
        let user = self.index.single_consumer(name)?;
        (self.net.nodes[user].op_type() == operation).then_some(user)
    }

    /// The one of two inputs that is made by `operation`, and the other one.
    fn operand_produced_by(&self, node: &'a NodeProto, operation: &str) -> Option<(&'a NodeProto, &'a String)> {
        let [a, b] = &node.input[..] else { return None };
        let first = self.produced_by(a, operation).map(|made| (made, b));
        first.or_else(|| self.produced_by(b, operation).map(|made| (made, a)))
    }

    /// What is turned by `axes` to `name`.
    fn transpose_input(&self, name: &str, axes: &[i64]) -> Option<&'a String> {
        let node = self.produced_by(name, "Transpose")?;
        (attribute_list(node, "perm")? == axes).then_some(&node.input[0])
    }

    /// Whether `name` depends on an input of the graph.
    fn depends_on_input(&self, name: &str) -> bool {
        match self.index.producer(name) {
            Some(producer) => self.net.nodes[producer]
                .input
                .iter()
                .any(|input| self.depends_on_input(input)),
            None => !self.net.is_constant(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StreamingConfig, graph_in, read_file, specialize};

    #[test]
    fn every_layer_is_found() {
        for (path, lookahead) in [
            ("../nemostt/assets/demo-model/encoder-model.onnx", 0),
            ("../nemostt/assets/demo-model/encoder-model.onnx", 1),
            ("../nemostt/assets/demo-model/ctc.onnx", 13),
            ("../../tests/data/tiny_random/encoder-rnnt_la13.onnx", 6),
        ] {
            let mut graph = graph_in(path);
            let streaming = StreamingConfig::read(&graph).unwrap();
            specialize(&mut graph, &streaming, lookahead).unwrap();
            let (given, mut inputs) = (graph.outputs(), graph.inputs().len());
            assert_eq!(graph.fuse(), (streaming.layers, streaming.layers), "{path}");
            // What goes to a ring is as large as that.
            let sizes = |graph: &Graph, name: &str| graph.input(name).map(|input| input.dims);
            for (before, after) in given.iter().zip(graph.outputs()) {
                let ring = after.name.strip_suffix("/next").and_then(|ring| sizes(&graph, ring));
                assert_eq!(after.dims, ring.unwrap_or_else(|| before.dims.clone()));
                assert_eq!((&after.name, after.element), (&before.name, before.element));
            }
            // And which row of the caches is the oldest.
            inputs += 1;
            assert_eq!(graph.inputs().len(), inputs);
            assert_eq!(graph.ring_caches().len(), 2 * streaming.layers);
            let count = |operation: &str| graph.operations().filter(|&found| found == operation).count();
            assert_eq!(count(REL_POS_ATTENTION), streaming.layers);
            assert_eq!(count(GLU_DEPTHWISE_CONV), streaming.layers);
            assert_eq!(count(LAYER_NORM), 6 * streaming.layers);
            assert_eq!((count(STRIDED_CONV), count("Conv")), (3, 0));
            // Nothing is left of what they stand for.
            assert_eq!(
                (count("Softmax"), count("Split"), count("Sigmoid")),
                (0, 0, 2 * streaming.layers)
            );
            assert_eq!(graph.fuse(), (0, 0));
        }
    }

    #[test]
    fn an_export_as_it_is_stays_so() {
        let file = format!(
            "{}/../nemostt/assets/demo-model/encoder-model.onnx",
            env!("CARGO_MANIFEST_DIR")
        );
        let mut graph = Graph::decode_file(read_file(file.as_ref()).unwrap()).unwrap();
        let before = graph.operations().count();
        assert_eq!(graph.fuse(), (0, 0));
        assert!(graph.operations().count() <= before);
    }
}

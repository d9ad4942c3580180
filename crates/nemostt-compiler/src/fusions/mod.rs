// SPDX-License-Identifier: MIT OR Apache-2.0

//! Parts of a planned graph as operations of our own.
//!
//! Between its products a layer has 40 nodes of a few microseconds each, a third of a step at lookahead 80 ms: they take
//! longer to begin than to end. [`nemostt_kernels`] does the same sums in two passes.

pub(crate) mod append_joint_head;
pub(crate) mod epilogue;
mod glu_depthwise_conv;
pub(crate) mod joint_to_rows;
mod layer_norm;
pub(crate) mod match_matmul;
mod patterns;
pub(crate) mod prepack_matmul;
mod rel_pos_attention;
pub(crate) mod split_joint;
mod strided_conv;
pub(crate) mod subgraph;

use std::collections::HashSet;

pub use self::{
    glu_depthwise_conv::GLU_DEPTHWISE_CONV,
    layer_norm::{EPSILON, LAYER_NORM, SILU},
    rel_pos_attention::{REL_POS_ATTENTION, RING_HEAD_INPUT, SCALE},
    strided_conv::{PADS, RELU, SHARED_INPUT, STRIDED_CONV, STRIDES},
};
use crate::{Graph, fusions::prepack_matmul::DOMAIN, ir::net::Net};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StreamingConfig, read_file, specialize};

    #[test]
    fn every_layer_is_found() {
        for (path, lookahead) in [
            ("../nemostt/assets/demo-model/encoder-model.onnx", 0),
            ("../nemostt/assets/demo-model/encoder-model.onnx", 1),
            ("../nemostt/assets/demo-model/ctc.onnx", 13),
            ("../../tests/data/tiny_random/encoder-rnnt_la13.onnx", 6),
        ] {
            let file = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
            let mut graph = Graph::decode_file(read_file(file.as_ref()).unwrap()).unwrap();
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

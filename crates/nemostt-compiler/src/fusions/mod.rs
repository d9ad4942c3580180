// SPDX-License-Identifier: MIT OR Apache-2.0

//! Fusions: nodes of a specialized graph, replaced by operations of [`nemostt_kernels`].
//!
//! Between its matrix products, a layer has 40 nodes of a few microseconds each, a third of a step at lookahead 80 ms.
//! Most of that is the overhead of starting a node. The kernels compute the same sums in two passes over the data.

pub(crate) mod append_joint_head;
pub(crate) mod epilogue;
pub(crate) mod glu_depthwise_conv;
pub(crate) mod joint_to_rows;
pub(crate) mod layer_norm;
pub(crate) mod match_matmul;
mod patterns;
pub(crate) mod prepack_matmul;
pub(crate) mod rel_pos_attention;
pub(crate) mod split_joint;
pub(crate) mod strided_conv;
pub(crate) mod subgraph;

use crate::ops::REL_POS_ATTENTION;
use std::collections::HashSet;

pub use self::rel_pos_attention::RING_HEAD_INPUT;
use crate::Graph;

impl Graph {
    /// The inputs of the graph that are ring buffers: the caches of [`REL_POS_ATTENTION`]. New rows are written to them
    /// from the row of [`RING_HEAD_INPUT`] on.
    pub fn ring_caches(&self) -> HashSet<String> {
        let attentions = self
            .nodes
            .iter()
            .filter(|node| node.op_type() == REL_POS_ATTENTION.name);
        let caches = attentions.flat_map(|node| rel_pos_attention::CACHE_INPUTS.map(|input| node.input.get(input)));
        caches.flatten().cloned().collect()
    }
}

/// Runs the passes of [`FUSE`](crate::pipeline::FUSE) over a specialized graph and returns their reports.
#[cfg(test)]
pub(crate) fn fuse(
    graph: &mut Graph,
    specialized: &mut crate::SpecializedEncoder,
    streaming: &crate::StreamingConfig,
) -> Vec<crate::pipeline::PassReport> {
    let target = crate::pipeline::Target {
        custom_ops: true,
        int8: None,
        convert_fp16: true,
        clip_to_min_max: false,
    };
    let mut recorder = crate::pipeline::Recorder::default();
    recorder.fuse(graph, specialized, streaming, &target);
    recorder.reports
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{GLU_DEPTHWISE_CONV, LAYER_NORM, STRIDED_CONV};
    use crate::{StreamingConfig, graph_in, specialize};

    #[test]
    fn every_layer_is_fused() {
        for (path, lookahead) in [
            ("../nemostt/assets/demo-model/encoder-model.onnx", 0),
            ("../nemostt/assets/demo-model/encoder-model.onnx", 1),
            ("../nemostt/assets/demo-model/ctc.onnx", 13),
            ("../../tests/data/tiny_random/encoder-rnnt_la13.onnx", 6),
        ] {
            let mut graph = graph_in(path);
            let streaming = StreamingConfig::read(&graph).unwrap();
            let (mut specialized, _) = specialize(&mut graph, &streaming, lookahead).unwrap();
            let (outputs, inputs) = (graph.outputs(), graph.inputs().len());
            let reports = fuse(&mut graph, &mut specialized, &streaming);
            assert!(
                reports
                    .iter()
                    .all(|report| report.outcome.is_ok() && report.diagnostic().is_none()),
                "{path}: {reports:?}"
            );
            // The output for a ring is as large as the ring.
            let sizes = |graph: &Graph, name: &str| graph.input(name).map(|input| input.dims);
            for (before, after) in outputs.iter().zip(graph.outputs()) {
                let ring = after.name.strip_suffix("/next").and_then(|ring| sizes(&graph, ring));
                assert_eq!(after.dims, ring.unwrap_or_else(|| before.dims.clone()));
                assert_eq!((&after.name, after.element), (&before.name, before.element));
            }
            // The ring head is a new input.
            assert_eq!(graph.inputs().len(), inputs + 1);
            assert_eq!(graph.ring_caches().len(), 2 * streaming.layers);
            let count = |operation: &str| graph.operations().filter(|&found| found == operation).count();
            assert_eq!(count(REL_POS_ATTENTION.name), streaming.layers);
            assert_eq!(count(GLU_DEPTHWISE_CONV.name), streaming.layers);
            assert_eq!(count(LAYER_NORM.name), 6 * streaming.layers);
            assert_eq!((count(STRIDED_CONV.name), count("Conv")), (3, 0));
            // Nothing is left of the fused nodes.
            assert_eq!(
                (count("Softmax"), count("Split"), count("Sigmoid")),
                (0, 0, 2 * streaming.layers)
            );
            assert!(
                fuse(&mut graph, &mut specialized, &streaming)
                    .iter()
                    .all(|report| report.outcome.as_ref().map_or(0, |applied| applied.count) == 0)
            );
        }
    }

    #[test]
    fn unspecialized_export_is_not_fused() {
        let mut graph = graph_in("../nemostt/assets/demo-model/encoder-model.onnx");
        let before = graph.operations().count();
        assert_eq!(rel_pos_attention::fuse(&mut graph), 0);
        assert_eq!(glu_depthwise_conv::fuse(&mut graph), 0);
        graph.clean_up();
        assert!(graph.operations().count() <= before);
    }
}

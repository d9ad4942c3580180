// SPDX-License-Identifier: MIT OR Apache-2.0

//! Rewrites of an encoder's graph at each start, whether it comes from the cache or not: the joint is appended, and
//! [subgraphs are fused](Graph::fuse_subgraphs).
//!
//! The first thing that happens to the frames of each chunk is the same: they are projected, and scored with the last
//! prediction, which is known before they are computed. A separate run for this would take twice as long as its
//! computation, because it has to wake threads and wait for the first weights. As the end of the encoder's own run it
//! has no such overhead.

use bytes::Bytes;

use crate::{
    ElementType, Encoded, Graph, NodeProto,
    ir::{boundary::Side, compose::compose},
};

/// The joint's input for encoder frames.
const FRAMES: &str = "encoder_outputs";

/// The output of an encoder with a head that has the logits of the chunk. (`outputs` has the encoder frames.)
pub const SCORES: &str = "scores";

impl Encoded {
    /// Appends `head` to the encoder: projection and scoring of a joint [in 2-D](crate::ProjectedJoint::to_2d),
    /// composed. The graph then has the additional input `prediction`, and the outputs `projected` \[T, width\] and
    /// [`SCORES`] \[T, classes\].
    ///
    /// # Errors
    /// A sentence that says why this is not possible; the encoder is then unchanged.
    pub fn append_head(&mut self, head: &Graph) -> Result<(), String> {
        let mut encoder = self.decode_graph()?;
        let rows = encoder.frame_rows().ok_or("its outputs are not computed as rows")?;
        encoder.rename(&rows, FRAMES);
        encoder.declare_unshaped(Side::Output, FRAMES, ElementType::F32);
        let mut head = head.clone();
        head.rename("outputs", SCORES);
        let mut joined = compose(&encoder, &head, FRAMES)?;
        joined.remove(Side::Output, FRAMES);
        let added_bytes: usize = head.packed.iter().map(|weights| weights.bytes()).sum();
        self.replace_graph(joined, added_bytes);
        Ok(())
    }

    /// [Fuses](Graph::fuse_subgraphs) consecutive operations and returns how many were fused.
    ///
    /// # Errors
    /// A sentence that says why the graph cannot be decoded.
    pub fn fuse_subgraphs(&mut self) -> Result<usize, String> {
        let mut graph = self.decode_graph()?;
        let count = graph.fuse_subgraphs();
        if count > 0 {
            self.replace_graph(graph, 0);
        }
        Ok(count)
    }

    /// Decodes the graph, without the weights that are in files.
    pub(crate) fn decode_graph(&self) -> Result<Graph, String> {
        let mut graph = Graph::decode(Bytes::copy_from_slice(&self.model)).map_err(|fault| fault.to_string())?;
        graph.packed.clone_from(&self.packed_weights);
        Ok(graph)
    }

    /// Replaces the graph by `graph`, which has `added_bytes` more of packed weights.
    pub(crate) fn replace_graph(&mut self, graph: Graph, added_bytes: usize) {
        let encoded = graph.encode();
        self.model = encoded.model;
        self.packed_weights = encoded.packed_weights;
        self.has_custom_ops = encoded.has_custom_ops;
        self.weights += added_bytes;
    }
}

impl Graph {
    /// The tensor \[T, width\] of which the encoder's `outputs` \[1, width, T\] are a transpose.
    fn frame_rows(&self) -> Option<String> {
        let (index, constants, rows) = (self.index(), self.constants(), self.rows());
        let input = |name: &str, operation: &str| -> Option<(&NodeProto, &str)> {
            let node = index.node(self, name).filter(|node| node.op_type() == operation)?;
            Some((node, node.input.first()?))
        };
        let (transpose, transposed) = input("outputs", "Transpose")?;
        let axes = transpose
            .attribute
            .iter()
            .find(|attribute| attribute.name() == "perm")?;
        let (reshape, found) = input(transposed, "Reshape")?;
        let sizes = constants.get(reshape.input.get(1)?.as_str())?;
        let is_batch = matches!(sizes[..], [1, frames, width] if frames > 0 && width > 0);
        (axes.ints == [0, 2, 1] && is_batch && rows.contains(found)).then(|| found.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{JOINT_ADD_RELU, PACKED_MATMUL, STRIDED_CONV};
    use crate::{
        AXES, Bits, CALLS, FUSED_SUBGRAPH, StreamingConfig, SubgraphCall, TensorInfo, graph_in, packed_halves,
        specialize,
    };

    /// The demo model's encoder after the passes at load, in fp32 or int8.
    fn encoder(bits: Option<Bits>) -> Encoded {
        let mut graph = graph_in("../nemostt/assets/demo-model/encoder-model.onnx");
        let streaming = StreamingConfig::read(&graph).unwrap();
        let (mut specialized, _) = specialize(&mut graph, &streaming, 1).unwrap();
        crate::fusions::fuse(&mut graph, &mut specialized, &streaming);
        if let Some(bits) = bits {
            assert!(graph.quantize(bits) > 0);
        }
        graph.prepack_matmuls().unwrap();
        graph.encode()
    }

    fn head() -> Graph {
        let rows = packed_halves().to_2d().unwrap();
        compose(&rows.projection, &rows.scoring, "projected").unwrap()
    }

    fn names(infos: Vec<TensorInfo>) -> Vec<String> {
        let mut names: Vec<String> = infos.into_iter().map(|info| info.name).collect();
        names.sort();
        names
    }

    #[test]
    fn head_ends_the_last_fused_subgraph() {
        for bits in [None, Some(Bits::Seven)] {
            let mut encoded = encoder(bits);
            let before = encoded.decode_graph().unwrap();
            let (packed, weights) = (encoded.packed_weights.len(), encoded.weights);
            encoded.append_head(&head()).unwrap();
            encoded.fuse_subgraphs().unwrap();
            let after = encoded.decode_graph().unwrap();
            let more = |mut names: Vec<String>, others: &[&str]| {
                names.extend(others.iter().map(|&name| name.to_owned()));
                names.sort();
                names
            };
            assert_eq!(names(after.inputs()), more(names(before.inputs()), &["prediction"]));
            assert_eq!(
                names(after.outputs()),
                more(names(before.outputs()), &["projected", SCORES])
            );
            assert_eq!(encoded.packed_weights.len(), packed + 2);
            assert!(encoded.weights > weights);

            let subgraphs: Vec<&NodeProto> = after
                .nodes
                .iter()
                .filter(|node| node.op_type() == FUSED_SUBGRAPH)
                .collect();
            let last = subgraphs.last().unwrap();
            assert!(
                ["projected", SCORES]
                    .iter()
                    .all(|name| last.output.iter().any(|output| output == name))
            );
            let attribute = |name: &str| {
                last.attribute
                    .iter()
                    .find(|attribute| attribute.name() == name)
                    .unwrap()
            };
            assert!(attribute(AXES).ints.ends_with(&[2, 2]));
            let calls: Vec<SubgraphCall> = serde_json::from_slice(attribute(CALLS).s()).unwrap();
            let end: Vec<&str> = calls.iter().rev().take(3).map(|call| call.operation.as_str()).collect();
            assert_eq!(
                end,
                [PACKED_MATMUL.name, JOINT_ADD_RELU.name, PACKED_MATMUL.name],
                "{bits:?}"
            );
            assert!(calls.iter().all(|call| call.operation != STRIDED_CONV.name));
            assert!(
                after
                    .nodes
                    .iter()
                    .all(|node| ![PACKED_MATMUL.name, JOINT_ADD_RELU.name].contains(&node.op_type()))
            );
        }
    }

    #[test]
    fn encoder_whose_outputs_are_not_rows_is_unchanged() {
        let mut encoded = encoder(None);
        let mut graph = encoded.decode_graph().unwrap();
        for node in &mut graph.nodes {
            for attribute in &mut node.attribute {
                if node.output == ["outputs"] && attribute.name() == "perm" {
                    attribute.ints = vec![2, 0, 1];
                }
            }
        }
        encoded.replace_graph(graph, 0);
        let before = encoded.model.clone();
        assert!(
            encoded
                .append_head(&head())
                .unwrap_err()
                .contains("not computed as rows")
        );
        assert_eq!(encoded.model, before);
    }

    #[test]
    fn conflicting_names_are_rejected() {
        let mut encoded = encoder(None);
        let mut graph = encoded.decode_graph().unwrap();
        graph.nodes[0].output.push("projected".into());
        encoded.replace_graph(graph, 0);
        assert!(
            encoded
                .append_head(&head())
                .unwrap_err()
                .contains("both produce projected")
        );
    }
}

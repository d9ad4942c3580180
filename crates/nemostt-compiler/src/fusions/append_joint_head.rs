// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is done to an encoder's graph each time it is loaded, whether it was kept from the last time or not: the joint's part
//! goes behind it, and all of it into [chains](Graph::fuse_subgraphs).
//!
//! The first thing that happens to encoder frames is the same for each chunk: they are projected and scored against the last
//! prediction, which is known before they are. In the encoder's own run that costs what it costs; in a run of its own, as
//! much again, to wake threads and to wait for the first weights.

use bytes::Bytes;

use crate::{
    ElementType, Encoded, Graph, NodeProto,
    ir::{boundary::Side, compose::compose},
};

/// What the joint calls the encoder's frames.
const FRAMES: &str = "encoder_outputs";

/// What the scores are called behind an encoder, whose frames are its `outputs`.
pub const SCORES: &str = "scores";

impl Encoded {
    /// Puts `head` behind the encoder: both halves of a joint [for rows](crate::ProjectedJoint::to_2d), one behind the other.
    /// The graph then takes `prediction`, too, and gives `projected` and [`SCORES`].
    ///
    /// # Errors
    /// A sentence that says why that cannot be done; the encoder is then as it was.
    pub fn append_head(&mut self, head: &Graph) -> Result<(), String> {
        let mut encoder = self.decode_graph()?;
        let rows = encoder
            .frame_rows()
            .ok_or("its frames are no rows before they are given")?;
        encoder.rename(&rows, FRAMES);
        encoder.declare_unshaped(Side::Output, FRAMES, ElementType::F32);
        let mut head = head.clone();
        head.rename("outputs", SCORES);
        let mut joined = compose(&encoder, &head, FRAMES)?;
        joined.remove(Side::Output, FRAMES);
        let more: usize = head.packed.iter().map(|weights| weights.bytes()).sum();
        self.replace_graph(joined, more);
        Ok(())
    }

    /// [Fuses](Graph::fuse_subgraphs) operations that follow each other. Returns how many are in programs then.
    ///
    /// # Errors
    /// A sentence that says why it cannot be read.
    pub fn fuse_subgraphs(&mut self) -> Result<usize, String> {
        let mut graph = self.decode_graph()?;
        let count = graph.fuse_subgraphs();
        if count > 0 {
            self.replace_graph(graph, 0);
        }
        Ok(count)
    }

    /// Its graph, without the weights that are in files.
    fn decode_graph(&self) -> Result<Graph, String> {
        let mut graph = Graph::decode(Bytes::copy_from_slice(&self.model)).map_err(|fault| fault.to_string())?;
        graph.packed.clone_from(&self.products);
        Ok(graph)
    }

    /// Becomes `graph`, with `more` bytes of weights that are in no file.
    fn replace_graph(&mut self, graph: Graph, more: usize) {
        let encoded = graph.encode();
        self.model = encoded.model;
        self.products = encoded.products;
        self.has_our_operations = encoded.has_our_operations;
        self.weights += more;
    }
}

impl Graph {
    /// The rows \[T, width\] of which the encoder's `outputs` \[1, width, T\] are made, if they are nothing else.
    fn frame_rows(&self) -> Option<String> {
        let (index, constants, rows) = (self.index(), self.constants(), self.rows());
        let input = |name: &str, operation: &str| -> Option<(&NodeProto, &str)> {
            let node = index.node(self, name).filter(|node| node.op_type() == operation)?;
            Some((node, node.input.first()?))
        };
        let (turn, turned) = input("outputs", "Transpose")?;
        let axes = turn.attribute.iter().find(|attribute| attribute.name() == "perm")?;
        let (reshape, found) = input(turned, "Reshape")?;
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
        AXES, Bits, CALLS, FUSED_SUBGRAPH, StreamingConfig, SubgraphCall, TensorInfo, packed_halves, read_file,
        specialize,
    };

    /// The demonstration model's encoder, ready to be chained, in fp32 or int8.
    fn encoder(bits: Option<Bits>) -> Encoded {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../nemostt/assets/demo-model/encoder-model.onnx"
        );
        let mut graph = Graph::decode_file(read_file(path.as_ref()).unwrap()).unwrap();
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
    fn the_head_is_the_end_of_the_last_chain() {
        for bits in [None, Some(Bits::Seven)] {
            let mut encoded = encoder(bits);
            let before = encoded.decode_graph().unwrap();
            let (products, weights) = (encoded.products.len(), encoded.weights);
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
            assert_eq!(encoded.products.len(), products + 2);
            assert!(encoded.weights > weights);

            let chains: Vec<&NodeProto> = after
                .nodes
                .iter()
                .filter(|node| node.op_type() == FUSED_SUBGRAPH)
                .collect();
            let last = chains.last().unwrap();
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
    fn an_encoder_whose_frames_are_no_rows_stays_as_it_is() {
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
        assert!(encoded.append_head(&head()).unwrap_err().contains("no rows"));
        assert_eq!(encoded.model, before);
    }

    #[test]
    fn names_that_both_have_keep_them_apart() {
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

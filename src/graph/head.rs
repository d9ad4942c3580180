// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is done to an encoder's graph each time it is loaded, whether it was kept from the last time or not: the joint's part
//! goes behind it, and all of it into [chains](Graph::chain).
//!
//! The first thing that happens to encoder frames is the same for each chunk: they are projected and scored against the last
//! prediction, which is known before they are. In the encoder's own run that costs what it costs; in a run of its own, as
//! much again, to wake threads and to wait for the first weights.

use bytes::Bytes;

use super::{ElementType, Encoded, Graph, NodeProto, edit::Side, merge::merge};

/// What the joint calls the encoder's frames.
const FRAMES: &str = "encoder_outputs";

/// What the scores are called behind an encoder, whose frames are its `outputs`.
pub(crate) const SCORES: &str = "scores";

impl Encoded {
    /// Puts `head` behind the encoder: both halves of a joint [for rows](super::ProjectedJoint::as_rows), one behind the other.
    /// The graph then takes `prediction`, too, and gives `projected` and [`SCORES`].
    ///
    /// # Errors
    /// A sentence that says why that cannot be done; the encoder is then as it was.
    pub(crate) fn join(&mut self, head: &Graph) -> Result<(), String> {
        let mut encoder = self.open()?;
        let rows = encoder
            .rows_of_frames()
            .ok_or("its frames are no rows before they are given")?;
        encoder.rename(&rows, FRAMES);
        encoder.declare_unshaped(Side::Output, FRAMES, ElementType::F32);
        let mut head = head.clone();
        head.rename("outputs", SCORES);
        let mut joined = merge(&encoder, &head, FRAMES)?;
        joined.remove(Side::Output, FRAMES);
        let more: usize = head.packed.iter().map(|weights| weights.bytes()).sum();
        self.take(joined, more);
        Ok(())
    }

    /// Makes [chains](Graph::chain) of its operations.
    ///
    /// # Errors
    /// A sentence that says why it cannot be read.
    pub(crate) fn chain(&mut self) -> Result<(), String> {
        let mut graph = self.open()?;
        if graph.chain() > 0 {
            self.take(graph, 0);
        }
        Ok(())
    }

    /// Its graph, without the weights that are in files.
    fn open(&self) -> Result<Graph, String> {
        let mut graph = Graph::decode(Bytes::copy_from_slice(&self.model)).map_err(|fault| fault.to_string())?;
        graph.packed.clone_from(&self.products);
        Ok(graph)
    }

    /// Becomes `graph`, with `more` bytes of weights that are in no file.
    fn take(&mut self, graph: Graph, more: usize) {
        let encoded = graph.encode();
        self.model = encoded.model;
        self.products = encoded.products;
        self.has_our_operations = encoded.has_our_operations;
        self.weights += more;
    }
}

impl Graph {
    /// The rows \[T, width\] of which the encoder's `outputs` \[1, width, T\] are made, if they are nothing else.
    fn rows_of_frames(&self) -> Option<String> {
        let (makers, constants, rows) = (self.producers(), self.constants(), self.rows());
        let input = |name: &str, operation: &str| -> Option<(&NodeProto, &str)> {
            let node = makers.get(name).filter(|node| node.op_type() == operation)?;
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

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Compacts an encoded graph for serialization: it refers to the files that it was read from, and may use only a
//! twentieth of them.

use std::{collections::HashSet, io, sync::Arc};

use bytes::Bytes;
use prost::Message;

use super::{
    external_data::{external, file_name, make_external},
    validate,
};
use crate::{Encoded, FileBytes, Graph, GraphError, ModelProto, TensorProto, onnx::tensor_proto::DataLocation};
use nemostt_kernels::gemm::PackedWeights;

/// A graph that refers to a single file, which contains only what it uses.
pub struct Compact<'a> {
    /// The ONNX model, without the large weights.
    pub model: Vec<u8>,
    /// The name by which it refers to the file of weights.
    pub file: String,
    /// The contents of the file of weights, to be concatenated.
    pub weights: Vec<&'a [u8]>,
}

impl Encoded {
    /// The same graph, with its weights in one file.
    ///
    /// # Errors
    /// Does not fail for graphs that [`Graph::encode`] encoded.
    pub fn compact(&self) -> io::Result<Compact<'_>> {
        let mut model = ModelProto::decode(&self.model[..])?;
        let mut weights = Vec::new();
        let mut end = 0;
        let tensors = model.graph.iter_mut().flat_map(|graph| &mut graph.initializer);
        for tensor in tensors.filter(|tensor| tensor.data_location() == DataLocation::External) {
            let bytes = self
                .data_of(tensor)
                .ok_or_else(|| io::Error::other("a weight is not in any file of the graph"))?;
            make_external(tensor, &file_name(0), end, bytes.len());
            weights.push(bytes);
            end += bytes.len();
        }
        Ok(Compact {
            model: model.encode_to_vec(),
            file: file_name(0),
            weights,
        })
    }

    /// The same graph as an ONNX model that contains its weights. ONNX allows models of less than 2 GB.
    ///
    /// # Errors
    /// Does not fail for graphs that [`Graph::encode`] encoded.
    pub fn self_contained(&self) -> io::Result<Vec<u8>> {
        let mut model = ModelProto::decode(&self.model[..])?;
        let tensors = model.graph.iter_mut().flat_map(|graph| &mut graph.initializer);
        for tensor in tensors.filter(|tensor| tensor.data_location() == DataLocation::External) {
            let bytes = self
                .data_of(tensor)
                .ok_or_else(|| io::Error::other("a weight is not in any file of the graph"))?;
            tensor.raw_data = Some(Bytes::copy_from_slice(bytes));
            tensor.external_data.clear();
            tensor.data_location = None;
        }
        Ok(model.encode_to_vec())
    }

    /// A [compacted](Self::compact) graph with its file of weights.
    pub fn from_compact(
        model: Vec<u8>,
        file: FileBytes,
        packed_weights: Vec<Arc<PackedWeights>>,
        weights: usize,
        has_custom_ops: bool,
    ) -> Self {
        Self {
            model,
            files: vec![(file_name(0), file)],
            packed_weights,
            weights,
            has_custom_ops,
        }
    }

    fn data_of(&self, tensor: &TensorProto) -> Option<&[u8]> {
        let entry = |key: &str| external(tensor, key);
        let location = entry("location")?;
        let (_, file) = self.files.iter().find(|(name, _)| name == location)?;
        let (offset, length): (usize, usize) = (entry("offset")?.parse().ok()?, entry("length")?.parse().ok()?);
        file.get(offset..offset.checked_add(length)?)
    }
}

impl Graph {
    /// Validates a serialized graph with its weights like one from a file; returns its [rings](Self::ring_caches).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_kept(model: &[u8], weights: &FileBytes) -> Result<HashSet<String>, GraphError> {
        let mut graph = Self::decode(Bytes::copy_from_slice(model))?;
        graph.attach(|_| Ok(weights.clone()))?;
        validate::validate(&graph, true)?;
        Ok(graph.ring_caches())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bits, StreamingConfig, graph_in, specialize};

    #[test]
    fn compact_graph_has_the_same_weights() {
        let mut graph = graph_in("../nemostt/assets/demo-model/encoder-model.onnx");
        let streaming = StreamingConfig::read(&graph).unwrap();
        specialize(&mut graph, &streaming, 1).unwrap();
        // Weights are then in two files.
        graph.quantize(Bits::Seven);
        let encoded = graph.encode();
        assert_eq!(encoded.files.len(), 2);
        let compact = encoded.compact().unwrap();
        let file: FileBytes = compact.weights.concat().into();
        let before: usize = encoded.files.iter().map(|(_, file)| file.len()).sum();
        assert!(file.len() < before);
        let decoded = Encoded::from_compact(compact.model, file, Vec::new(), encoded.weights, false);

        let tensors = |encoded: &Encoded| {
            ModelProto::decode(&encoded.model[..])
                .unwrap()
                .graph
                .unwrap()
                .initializer
        };
        let (before, after) = (tensors(&encoded), tensors(&decoded));
        assert_eq!(before.len(), after.len());
        let mut outside = 0;
        for (before, after) in before.iter().zip(&after) {
            assert_eq!((before.name(), &before.dims), (after.name(), &after.dims));
            assert_eq!(before.raw_data, after.raw_data);
            assert_eq!(encoded.data_of(before), decoded.data_of(after), "{}", before.name());
            outside += usize::from(decoded.data_of(after).is_some());
        }
        assert!(outside > 10);
    }
}

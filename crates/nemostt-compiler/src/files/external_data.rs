// SPDX-License-Identifier: MIT OR Apache-2.0

//! Avoids copies of weights: a decoded graph refers to the files that it was read from, and so does the graph that ONNX
//! Runtime gets.
//!
//! Encoding weights into the model would copy them, and ONNX Runtime's parser would copy them again. So before
//! encoding, they are replaced by references in ONNX's external data format: file, offset and length.

use std::{
    io::Read,
    iter::repeat_n,
    path::{Component, Path},
    sync::Arc,
};

use bytes::Bytes;
use prost::Message;

use crate::regular_file;
use crate::{
    FileBytes, Graph, GraphError, TensorProto,
    onnx::{StringStringEntryProto, tensor_proto::DataLocation},
};

/// Smaller tensors stay in the model: ONNX Runtime reads small ones during optimization.
pub(crate) const LARGE: usize = 4096;

/// Reads a graph or an external data file into shared memory.
///
/// # Errors
/// The system's, or if it is not a regular file or too large.
pub fn read_file(path: &Path) -> std::io::Result<FileBytes> {
    let is_graph = path.extension().is_some_and(|extension| extension == "onnx");
    let max_bytes = if is_graph {
        regular_file::GRAPH
    } else {
        regular_file::WEIGHTS
    };
    let (mut file, length) = regular_file::open(path, max_bytes)?;
    let length = usize::try_from(length).map_err(std::io::Error::other)?;
    fill_shared(length, |dst| file.read_exact(dst))
}

/// Shared memory of `length` bytes that `fill` writes.
///
/// # Errors
/// Those of `fill`, or the system's if there is not enough memory.
pub fn fill_shared(length: usize, fill: impl FnOnce(&mut [u8]) -> std::io::Result<()>) -> std::io::Result<FileBytes> {
    // `Arc` cannot be allocated fallibly. If this allocation succeeds and is freed, the next one of the same size
    // should succeed, too.
    Vec::<u8>::new()
        .try_reserve_exact(length.saturating_add(4096))
        .map_err(|_| std::io::ErrorKind::OutOfMemory)?;
    let mut bytes: FileBytes = repeat_n(0, length).collect();
    // There is no other reference yet.
    if let Some(dst) = Arc::get_mut(&mut bytes) {
        fill(dst)?;
    }
    Ok(bytes)
}

/// A graph that is encoded for ONNX Runtime.
#[derive(Clone)]
pub struct Encoded {
    /// The ONNX model, without the large weights.
    pub model: Vec<u8>,
    /// External data files, with the names that `model` uses.
    pub files: Vec<(String, FileBytes)>,
    /// The weights of the operators [`PACKED_MATMUL`](crate::ops::PACKED_MATMUL), by index.
    pub packed_weights: Vec<Arc<nemostt_kernels::gemm::PackedWeights>>,
    /// Bytes of all weights.
    pub weights: usize,
    /// Whether it contains custom operators.
    pub has_custom_ops: bool,
}

impl Graph {
    /// Decodes a file. Weights are not copied, neither here nor when the graph is [encoded](Self::encode).
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_file(file: FileBytes) -> Result<Self, GraphError> {
        let mut graph = Self::decode(Bytes::from_owner(file.clone()))?;
        graph.files.push(file);
        Ok(graph)
    }

    /// Attaches external data files, which graphs of more than 2 GB need. `read` gets each file's name, relative to the
    /// graph's directory.
    ///
    /// # Errors
    /// [`GraphError::ExternalData`] if a file is missing, too short, or outside of the graph's directory.
    pub fn attach(&mut self, mut read: impl FnMut(&str) -> std::io::Result<FileBytes>) -> Result<(), GraphError> {
        let mut files = Vec::new();
        self.resolve(|location| {
            let file = read(location)?;
            files.push(file.clone());
            Ok(Bytes::from_owner(file))
        })?;
        self.files.append(&mut files);
        Ok(())
    }

    /// As [`attach`](Self::attach), but the files do not become [`files`](Self::files) of the graph: when it is
    /// [encoded](Self::encode), their weights are copied into it.
    ///
    /// # Errors
    /// As [`attach`](Self::attach).
    pub fn resolve(&mut self, mut read: impl FnMut(&str) -> std::io::Result<Bytes>) -> Result<(), GraphError> {
        let mut known: Vec<(String, Bytes)> = Vec::new();
        let attributes = self.nodes.iter_mut().flat_map(|node| &mut node.attribute);
        let constants = attributes.filter_map(|attribute| attribute.t.as_mut());
        for tensor in self.initializers.iter_mut().chain(constants) {
            if tensor.data_location() != DataLocation::External {
                continue;
            }
            let name = tensor.name().to_owned();
            let entry = |key: &str| external(tensor, key);
            let location = entry("location").unwrap_or_default().to_owned();
            let invalid = |reason: String| GraphError::ExternalData {
                location: location.clone(),
                reason,
            };
            let number = |key: &str| entry(key).map(str::parse).transpose();
            let (Ok(offset), Ok(length)) = (number("offset"), number("length")) else {
                return Err(invalid(format!("the offset or length of {name} is not a number")));
            };
            let file = match known.iter().position(|(known, _)| *known == location) {
                Some(index) => &known[index].1,
                None => {
                    // A graph may only refer to files in its own directory.
                    let mut parts = Path::new(&location).components();
                    let is_relative = parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
                    if location.is_empty() || !is_relative {
                        return Err(invalid(format!("{name} refers to it, but it is not beside the graph")));
                    }
                    let file = read(&location).map_err(|error| invalid(error.to_string()))?;
                    known.push((location.clone(), file));
                    &known[known.len() - 1].1
                }
            };
            let start: usize = offset.unwrap_or(0);
            let end = match length {
                Some(length) => start.checked_add(length),
                None => Some(file.len()),
            };
            let Some(end) = end.filter(|&end| start <= end && end <= file.len()) else {
                return Err(invalid(format!("{name} is beyond its end; is it truncated?")));
            };
            tensor.raw_data = Some(file.slice(start..end));
            tensor.external_data.clear();
            tensor.data_location = None;
        }
        Ok(())
    }

    /// Encodes the graph for ONNX Runtime.
    pub fn encode(mut self) -> Encoded {
        let mut weights = self.packed.iter().map(|weights| weights.bytes()).sum();
        for tensor in self.initializers.iter_mut() {
            let Some(raw) = &tensor.raw_data else { continue };
            weights += raw.len();
            if raw.len() < LARGE {
                continue;
            }
            let location = self
                .files
                .iter()
                .enumerate()
                .find_map(|(number, file)| Some((number, offset_in(raw, file)?)));
            if let Some((number, offset)) = location {
                let length = raw.len();
                make_external(tensor, &file_name(number), offset, length);
            }
        }
        let names = (0..).map(file_name);
        let files = names.zip(std::mem::take(&mut self.files)).collect();
        let has_custom_ops = self.nodes.iter().any(|node| node.domain() == crate::ops::DOMAIN);
        Encoded {
            packed_weights: std::mem::take(&mut self.packed),
            model: self.into_proto().encode_to_vec(),
            files,
            weights,
            has_custom_ops,
        }
    }
}

pub(crate) fn file_name(number: usize) -> String {
    format!("weights-{number}")
}

/// The offset of `part` in `whole`, if it is a slice of it.
fn offset_in(part: &[u8], whole: &[u8]) -> Option<usize> {
    let offset = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    (offset.checked_add(part.len())? <= whole.len()).then_some(offset)
}

/// A value of a tensor's external data: "location", "offset" or "length".
pub(crate) fn external<'a>(tensor: &'a TensorProto, key: &str) -> Option<&'a str> {
    let found = tensor.external_data.iter().find(|entry| entry.key() == key);
    found.map(StringStringEntryProto::value)
}

pub(crate) fn make_external(tensor: &mut TensorProto, location: &str, offset: usize, length: usize) {
    let entry = |key: &str, value: String| StringStringEntryProto {
        key: Some(key.into()),
        value: Some(value),
    };
    tensor.raw_data = None;
    tensor.data_location = Some(DataLocation::External as i32);
    tensor.external_data = vec![
        entry("location", location.into()),
        entry("offset", offset.to_string()),
        entry("length", length.to_string()),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ModelProto, NodeProto, onnx::GraphProto};

    fn file_with(tensor: TensorProto) -> FileBytes {
        let graph = GraphProto {
            node: vec![NodeProto::default()],
            initializer: vec![tensor],
            ..Default::default()
        };
        let model = ModelProto {
            graph: Some(graph),
            ..Default::default()
        };
        model.encode_to_vec().into()
    }

    fn weight(raw: Option<Vec<u8>>) -> TensorProto {
        TensorProto {
            name: Some("w".into()),
            raw_data: raw.map(Bytes::from),
            ..Default::default()
        }
    }

    /// The data that ONNX Runtime would read for the weight of `encoded`.
    fn read_back(encoded: &Encoded) -> Vec<u8> {
        let model = ModelProto::decode(encoded.model.as_slice()).unwrap();
        let tensor = &model.graph.unwrap().initializer[0];
        assert_eq!(tensor.data_location(), DataLocation::External);
        let value = |key: &str| external(tensor, key).unwrap();
        let (offset, length): (usize, usize) = (value("offset").parse().unwrap(), value("length").parse().unwrap());
        let (_, file) = encoded
            .files
            .iter()
            .find(|(name, _)| name == value("location"))
            .unwrap();
        file[offset..offset + length].to_vec()
    }

    #[test]
    fn large_weights_become_external_data() {
        let values: Vec<u8> = (0..LARGE).map(|i| (i % 251) as u8).collect();
        let encoded = Graph::decode_file(file_with(weight(Some(values.clone()))))
            .unwrap()
            .encode();
        assert!(encoded.model.len() < LARGE);
        assert_eq!(encoded.weights, LARGE);
        assert_eq!(read_back(&encoded), values);
    }

    #[test]
    fn external_data_is_read_from_the_graphs_directory() {
        let values: Vec<u8> = (0..2 * LARGE).map(|i| (i % 251) as u8).collect();
        let mut tensor = weight(None);
        make_external(&mut tensor, "data.bin", 100, LARGE);
        let mut graph = Graph::decode_file(file_with(tensor.clone())).unwrap();
        graph
            .attach(|name| {
                assert_eq!(name, "data.bin");
                Ok(values.clone().into())
            })
            .unwrap();
        assert_eq!(read_back(&graph.encode()), values[100..100 + LARGE]);

        let short = |_: &str| Ok(values[..LARGE].into());
        let mut graph = Graph::decode_file(file_with(tensor.clone())).unwrap();
        assert!(graph.attach(short).unwrap_err().to_string().contains("truncated"));
        for location in ["/etc/passwd", "../data.bin", ""] {
            make_external(&mut tensor, location, 0, LARGE);
            let mut graph = Graph::decode_file(file_with(tensor.clone())).unwrap();
            let nothing = |_: &str| unreachable!("{location} must not be read");
            assert!(
                graph.attach(nothing).unwrap_err().to_string().contains("beside"),
                "{location}"
            );
        }
    }
}

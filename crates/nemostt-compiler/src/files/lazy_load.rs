// SPDX-License-Identifier: MIT OR Apache-2.0

//! Loads a graph without its weights: a few pages of a file of hundreds of megabytes.
//!
//! Large weights are replaced by zeros of the same size, so that names, shapes, nodes and small constants are those of
//! the whole graph. Code that needs values must read the whole file.

use std::{
    fs::File,
    io::{self, BufReader, Error, ErrorKind, Read},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use memmap2::MmapMut;
use prost::Message;

use super::external_data::LARGE;
use crate::regular_file;
use crate::{
    Graph, ModelProto, TensorProto,
    onnx::{
        GraphProto,
        size::{self, Kind},
    },
};

// Field numbers in `onnx.proto`.
const GRAPH_OF_MODEL: u64 = 7;
const INITIALIZER_OF_GRAPH: u64 = 5;
const RAW_DATA_OF_TENSOR: u64 = 9;

/// Maximum bytes of everything except large weights, where each field counts as at least [`MIN_FIELD_COST`]: ten times
/// as many as the graph of the largest model of this family has.
const MAX_METADATA_BYTES: usize = 64 << 20;
/// Memory that a decoded field needs, however few bytes it has in the file.
const MIN_FIELD_COST: usize = 32;

/// A graph without its large weights.
#[derive(Debug)]
pub struct LazyGraph {
    /// The graph, with zeros in place of large weights.
    pub graph: Graph,
    /// The model file and its external data files, in the order of [`Graph::files`].
    pub files: Vec<PathBuf>,
}

/// Loads the graph in file `path` without its large weights.
///
/// # Errors
/// The system's, or an error that describes what is wrong with the file: reading the whole file gives a better one.
pub fn lazy_load(path: &Path) -> io::Result<LazyGraph> {
    let (file, end) = regular_file::open(path, regular_file::GRAPH)?;
    let mut wire = WireReader {
        file: BufReader::new(file),
        at: 0,
        metadata_bytes: 0,
    };
    let mut graph = None;
    let header = wire.message(end, &mut |wire, number, end| {
        let is_graph = number == GRAPH_OF_MODEL && graph.is_none();
        if is_graph {
            graph = Some(wire.graph(end)?);
        }
        Ok(is_graph)
    })?;
    let graph = graph
        .filter(|graph| !graph.node.is_empty())
        .ok_or_else(|| invalid("it contains no graph"))?;
    size::check(&header, Kind::Model).map_err(Error::other)?;
    let mut graph = Graph::from_proto(ModelProto::decode(&header[..])?, graph);
    let directory = path.parent().unwrap_or(Path::new(""));
    let mut files = vec![path.to_owned()];
    let resolved = graph.resolve(|location| {
        let path = directory.join(location);
        let (_, length) = regular_file::open(&path, regular_file::WEIGHTS)?;
        files.push(path);
        zeros(length)
    });
    resolved.map_err(Error::other)?;
    Ok(LazyGraph { graph, files })
}

/// Reads a file of protobuf messages sequentially.
struct WireReader {
    file: BufReader<File>,
    at: u64,
    /// Counts towards [`MAX_METADATA_BYTES`].
    metadata_bytes: usize,
}

impl WireReader {
    fn graph(&mut self, end: u64) -> io::Result<GraphProto> {
        let (mut weights, mut lengths) = (Vec::new(), Vec::new());
        let rest = self.message(end, &mut |wire, number, end| {
            if number != INITIALIZER_OF_GRAPH {
                return Ok(false);
            }
            wire.count_bytes(size_of::<TensorProto>())?;
            let mut length = None;
            let tensor = wire.message(end, &mut |wire, number, end| {
                let is_large = number == RAW_DATA_OF_TENSOR && end - wire.at >= LARGE as u64;
                if is_large {
                    length = Some(end - wire.at);
                    wire.skip_to(end)?;
                }
                Ok(is_large)
            })?;
            size::check(&tensor, Kind::Tensor).map_err(Error::other)?;
            weights.push(TensorProto::decode(&tensor[..])?);
            lengths.push(length);
            Ok(true)
        })?;
        let longest = lengths.iter().flatten().max();
        let nothing = zeros(longest.copied().unwrap_or_default())?;
        for (weight, length) in weights.iter_mut().zip(lengths) {
            if let Some(length) = length {
                weight.raw_data = Some(nothing.slice(..length as usize));
            }
        }
        size::check(&rest, Kind::Graph).map_err(Error::other)?;
        let mut graph = GraphProto::decode(Bytes::from(rest))?;
        graph.initializer = weights;
        Ok(graph)
    }

    /// Reads a message that ends at `end`. `consume` is called for each length-delimited field, with its number and
    /// end; it either reads the field and returns true, or returns false. Returns all fields that it did not consume,
    /// unchanged.
    fn message(
        &mut self,
        end: u64,
        consume: &mut dyn FnMut(&mut Self, u64, u64) -> io::Result<bool>,
    ) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        while self.at < end {
            let mut key_and_length = Vec::new();
            let key = self.varint(&mut key_and_length)?;
            self.count_bytes(MIN_FIELD_COST)?;
            if key >> 3 == 0 {
                return Err(invalid("it has a field with number 0"));
            }
            match key & 7 {
                0 => drop(self.varint(&mut key_and_length)?),
                1 => self.copy(8, &mut key_and_length)?,
                5 => self.copy(4, &mut key_and_length)?,
                2 => {
                    let length = self.varint(&mut key_and_length)?;
                    let field_end = self.at.checked_add(length).filter(|&field_end| field_end <= end);
                    let field_end = field_end.ok_or_else(|| invalid("a field extends beyond its message"))?;
                    if consume(self, key >> 3, field_end)? {
                        continue;
                    }
                    rest.append(&mut key_and_length);
                    self.copy(length, &mut rest)?;
                }
                _ => return Err(invalid("it has a field with an unsupported wire type")),
            }
            rest.append(&mut key_and_length);
        }
        match self.at == end {
            true => Ok(rest),
            false => Err(invalid("a field extends beyond its message")),
        }
    }

    /// Reads a varint, and also appends its bytes to `copy`.
    fn varint(&mut self, copy: &mut Vec<u8>) -> io::Result<u64> {
        let mut value = 0;
        for place in 0..10 {
            let mut byte = [0];
            self.file.read_exact(&mut byte)?;
            self.at += 1;
            copy.push(byte[0]);
            value |= u64::from(byte[0] & 0x7f) << (7 * place);
            if byte[0] < 0x80 {
                return Ok(value);
            }
        }
        Err(invalid("it has an unterminated varint"))
    }

    /// Counts bytes of metadata.
    fn count_bytes(&mut self, bytes: usize) -> io::Result<()> {
        self.metadata_bytes = self.metadata_bytes.saturating_add(bytes);
        match self.metadata_bytes > MAX_METADATA_BYTES {
            true => Err(invalid("it has too much metadata")),
            false => Ok(()),
        }
    }

    fn copy(&mut self, length: u64, to: &mut Vec<u8>) -> io::Result<()> {
        self.count_bytes(usize::try_from(length).unwrap_or(usize::MAX))?;
        let read = self.file.by_ref().take(length).read_to_end(to)? as u64;
        self.at += read;
        match read == length {
            true => Ok(()),
            false => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    fn skip_to(&mut self, end: u64) -> io::Result<()> {
        let length = i64::try_from(end - self.at).map_err(Error::other)?;
        self.file.seek_relative(length)?;
        self.at = end;
        Ok(())
    }
}

/// Zeros that need no memory until they are read.
fn zeros(length: u64) -> io::Result<Bytes> {
    let length = usize::try_from(length).map_err(Error::other)?;
    let map = MmapMut::map_anon(length.max(1))?.make_read_only()?;
    Ok(Bytes::from_owner(map).slice(..length))
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Component, Contract, StreamingConfig, graph_in, import};

    const ENCODER: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../nemostt/assets/demo-model/encoder-model.onnx"
    );
    /// Its weights are in an external data file.
    const EXTERNAL: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/data/layouts/genai/encoder.onnx"
    );

    fn encoder(graph: Graph) -> (Graph, Contract) {
        match import(graph).unwrap().1 {
            Component::Encoder(graph, contract) => (graph, contract),
            other => panic!("{}", other.name()),
        }
    }

    #[test]
    fn lazy_graph_equals_whole_graph_except_weights() {
        for (path, files) in [(ENCODER, 1), (EXTERNAL, 2)] {
            let (whole, lazy) = (graph_in(path), lazy_load(path.as_ref()).unwrap());
            assert_eq!(lazy.files.len(), files, "{path}");
            assert_eq!(whole.files.len(), files, "{path}");
            for (file, bytes) in lazy.files.iter().zip(&whole.files) {
                assert_eq!(std::fs::read(file).unwrap(), **bytes);
            }
            assert_eq!(lazy.graph.weights(), whole.weights());
            assert_eq!(lazy.graph.precision(), whole.precision());
            let (whole, lazy) = (encoder(whole), encoder(lazy.graph));
            assert_eq!(lazy.1, whole.1);
            assert_eq!(StreamingConfig::read(&lazy.0), StreamingConfig::read(&whole.0));
            assert_eq!(lazy.0.inputs(), whole.0.inputs());
            assert_eq!(lazy.0.outputs(), whole.0.outputs());
            let mut all = lazy.0;
            for (weight, real) in all.initializers.iter_mut().zip(whole.0.initializers.iter()) {
                let length = |tensor: &TensorProto| tensor.raw_data.as_ref().map(Bytes::len);
                assert_eq!(length(weight), length(real));
                weight.raw_data.clone_from(&real.raw_data);
            }
            assert!(all.into_proto() == whole.0.into_proto(), "{path}");
        }
    }

    #[test]
    fn truncated_and_other_files_are_rejected() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("graph.onnx");
        let bytes = std::fs::read(ENCODER).unwrap();
        for length in (0..bytes.len()).step_by(bytes.len() / 50) {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(lazy_load(&path).is_err(), "{length}");
        }
        for other in [&b"<html>"[..], &[0xff; 100], b"\x3a\x05"] {
            std::fs::write(&path, other).unwrap();
            assert!(lazy_load(&path).is_err(), "{other:?}");
        }
    }

    #[test]
    fn large_files_that_are_not_graphs_are_rejected_quickly() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("graph.onnx");
        let zeros = File::create(&path).unwrap();
        zeros.set_len(300 << 20).unwrap();
        let start = std::time::Instant::now();
        assert!(lazy_load(&path).unwrap_err().to_string().contains("with number 0"));
        // Repeated format versions.
        std::fs::write(&path, b"\x08\x01".repeat(16 << 20)).unwrap();
        assert!(lazy_load(&path).unwrap_err().to_string().contains("too much metadata"));
        let elapsed = start.elapsed();
        assert!(elapsed.as_secs() < 5, "{elapsed:?}");
    }
}

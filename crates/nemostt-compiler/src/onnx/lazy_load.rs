// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reads what a graph is without its weights: a few pages of a file of hundreds of megabytes.
//!
//! In place of each large weight lies nothing but its size, so whatever looks at names, shapes, nodes or small constants
//! finds what it would find in the whole graph. Whatever needs values must read the file.

use std::{
    fs::File,
    io::{self, BufReader, Error, ErrorKind, Read},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use memmap2::MmapMut;
use prost::Message;

use crate::regular_file;
use crate::{
    Graph, ModelProto, TensorProto,
    onnx::{
        GraphProto,
        external_data::LARGE,
        size::{self, Kind},
    },
};

// Numbers of fields in `onnx.proto`.
const GRAPH_OF_MODEL: u64 = 7;
const INITIALIZER_OF_GRAPH: u64 = 5;
const RAW_DATA_OF_TENSOR: u64 = 9;

/// Most bytes of all but large weights, where a field counts for [`MIN_FIELD_COST`] at least: ten times as many as the graph of the
/// largest model of this family has.
const MAX_METADATA_BYTES: usize = 64 << 20;
/// What a field takes in memory when it is decoded, however few bytes it has in the file.
const MIN_FIELD_COST: usize = 32;

/// A graph whose large weights are missing.
#[derive(Debug)]
pub struct LazyGraph {
    /// The graph, zeros in place of the weights.
    pub graph: Graph,
    /// The files that hold them: its own, and those that it names, in the order of [`Graph::files`].
    pub files: Vec<PathBuf>,
}

/// Reads the graph in file `path` without its large weights.
///
/// # Errors
/// The system's, and any sentence about what is wrong with the file: who reads it whole gets a better one.
pub fn lazy_load(path: &Path) -> io::Result<LazyGraph> {
    let (file, end) = regular_file::open(path, regular_file::GRAPH)?;
    let mut wire = WireReader {
        file: BufReader::new(file),
        at: 0,
        kept: 0,
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
        .ok_or_else(|| invalid("there is no graph in it"))?;
    size::check(&header, Kind::Model).map_err(Error::other)?;
    let mut graph = Graph {
        header: ModelProto::decode(&header[..])?,
        graph,
        files: Vec::new(),
        packed: Vec::new(),
    };
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

/// A file of protobuf messages, read once from its beginning to its end.
struct WireReader {
    file: BufReader<File>,
    at: u64,
    /// Of [`MAX_METADATA_BYTES`].
    kept: usize,
}

impl WireReader {
    fn graph(&mut self, end: u64) -> io::Result<GraphProto> {
        let (mut weights, mut lengths) = (Vec::new(), Vec::new());
        let rest = self.message(end, &mut |wire, number, end| {
            if number != INITIALIZER_OF_GRAPH {
                return Ok(false);
            }
            wire.keep(size_of::<TensorProto>())?;
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

    /// Reads a message that goes on to `end`. `take` is asked about each of its fields that has a length, with its number
    /// and its end, and reads it or says no; what it did not take comes back as it was.
    fn message(
        &mut self,
        end: u64,
        take: &mut dyn FnMut(&mut Self, u64, u64) -> io::Result<bool>,
    ) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        while self.at < end {
            let mut key_and_length = Vec::new();
            let key = self.varint(&mut key_and_length)?;
            self.keep(MIN_FIELD_COST)?;
            if key >> 3 == 0 {
                return Err(invalid("it has a field without a number"));
            }
            match key & 7 {
                0 => drop(self.varint(&mut key_and_length)?),
                1 => self.copy(8, &mut key_and_length)?,
                5 => self.copy(4, &mut key_and_length)?,
                2 => {
                    let length = self.varint(&mut key_and_length)?;
                    let its_end = self.at.checked_add(length).filter(|&its_end| its_end <= end);
                    let its_end = its_end.ok_or_else(|| invalid("a field is longer than what it is in"))?;
                    if take(self, key >> 3, its_end)? {
                        continue;
                    }
                    rest.append(&mut key_and_length);
                    self.copy(length, &mut rest)?;
                }
                _ => return Err(invalid("it has a field of a kind that ONNX has none of")),
            }
            rest.append(&mut key_and_length);
        }
        match self.at == end {
            true => Ok(rest),
            false => Err(invalid("a field is longer than what it is in")),
        }
    }

    /// Reads a number; its bytes go to `copy`, too.
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
        Err(invalid("a number in it does not end"))
    }

    /// Counts what is kept.
    fn keep(&mut self, bytes: usize) -> io::Result<()> {
        self.kept = self.kept.saturating_add(bytes);
        match self.kept > MAX_METADATA_BYTES {
            true => Err(invalid("it has too much besides its weights")),
            false => Ok(()),
        }
    }

    fn copy(&mut self, length: u64, to: &mut Vec<u8>) -> io::Result<()> {
        self.keep(usize::try_from(length).unwrap_or(usize::MAX))?;
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

/// As many zeros, which take no memory as long as nobody reads them.
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
    use crate::{Component, Contract, StreamingConfig, import, read_file};

    const ENCODER: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../nemostt/assets/demo-model/encoder-model.onnx"
    );
    /// Its weights lie in a file beside it.
    const APART: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/data/layouts/genai/encoder.onnx"
    );

    fn whole(path: &Path) -> Graph {
        let mut graph = Graph::decode_file(read_file(path).unwrap()).unwrap();
        let beside = |location: &str| read_file(&path.with_file_name(location));
        graph.attach(beside).unwrap();
        graph
    }

    fn encoder(graph: Graph) -> (Graph, Contract) {
        match import(graph).unwrap().1 {
            Component::Encoder(graph, contract) => (graph, contract),
            other => panic!("{}", other.name()),
        }
    }

    #[test]
    fn all_but_the_weights_is_there() {
        for (path, files) in [(ENCODER, 1), (APART, 2)] {
            let (whole, skimmed) = (whole(path.as_ref()), lazy_load(path.as_ref()).unwrap());
            assert_eq!(skimmed.files.len(), files, "{path}");
            assert_eq!(whole.files.len(), files, "{path}");
            for (file, bytes) in skimmed.files.iter().zip(&whole.files) {
                assert_eq!(std::fs::read(file).unwrap(), **bytes);
            }
            assert_eq!(skimmed.graph.weights(), whole.weights());
            assert_eq!(skimmed.graph.precision(), whole.precision());
            let (whole, skimmed) = (encoder(whole), encoder(skimmed.graph));
            assert_eq!(skimmed.1, whole.1);
            assert_eq!(StreamingConfig::read(&skimmed.0), StreamingConfig::read(&whole.0));
            assert_eq!(skimmed.0.inputs(), whole.0.inputs());
            assert_eq!(skimmed.0.outputs(), whole.0.outputs());
            let mut all = skimmed.0;
            for (weight, real) in all.graph.initializer.iter_mut().zip(&whole.0.graph.initializer) {
                let length = |tensor: &TensorProto| tensor.raw_data.as_ref().map(Bytes::len);
                assert_eq!(length(weight), length(real));
                weight.raw_data.clone_from(&real.raw_data);
            }
            assert_eq!(all.graph, whole.0.graph, "{path}");
            assert_eq!(all.header, whole.0.header, "{path}");
        }
    }

    #[test]
    fn what_is_cut_short_or_no_graph_is_an_error() {
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
    fn a_large_file_that_is_no_graph_is_told_soon() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("graph.onnx");
        let zeros = File::create(&path).unwrap();
        zeros.set_len(300 << 20).unwrap();
        let begin = std::time::Instant::now();
        assert!(lazy_load(&path).unwrap_err().to_string().contains("without a number"));
        // Versions of the format, one behind the other.
        std::fs::write(&path, b"\x08\x01".repeat(16 << 20)).unwrap();
        assert!(lazy_load(&path).unwrap_err().to_string().contains("too much"));
        let took = begin.elapsed();
        assert!(took.as_secs() < 5, "{took:?}");
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which file of a model directory has which role.
//!
//! Graphs are recognized by their inputs and outputs, not by their file names, so that a renamed export still loads.
//! Names only matter if a directory has a graph in several precisions, as sherpa-onnx's do (`encoder.onnx`,
//! `encoder.int8.onnx`).

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{file_kind::not_a_graph, precision_variants::choose};
use crate::{
    error::{Error, Result},
    memory_guard,
};
use nemostt_compiler::regular_file;
use nemostt_compiler::{
    Component, Contract, Graph, GraphError, Joint, LazyGraph, Precision, TensorInfo, TransducerGraphs, import,
    lazy_load, read_file,
};

/// A file's contents, and its name for messages.
#[derive(Debug, Clone)]
pub(crate) struct SourceFile {
    pub(crate) name: String,
    pub(crate) bytes: Bytes,
}

impl SourceFile {
    /// Reads a file of at most `max_bytes` bytes.
    pub(crate) fn read(path: &Path, max_bytes: u64) -> Result<Self> {
        let bytes = regular_file::read(path, max_bytes).map_err(|error| unreadable(path, error))?;
        Ok(Self {
            name: path.display().to_string(),
            bytes: bytes.into(),
        })
    }
}

/// A file of a model that is compiled in.
#[cfg(feature = "embedded-model")]
#[derive(Debug, Clone)]
pub(crate) struct StaticFile {
    pub(crate) name: &'static str,
    pub(crate) bytes: Bytes,
}

#[cfg(feature = "embedded-model")]
impl StaticFile {
    /// The graph in it, with the weights that it keeps in other files of `beside`, and the contents of all of these files.
    pub(crate) fn graph(&self, beside: &[Self]) -> std::result::Result<(Graph, Vec<Bytes>), GraphError> {
        let mut graph = Graph::decode(self.bytes.clone())?;
        let mut files = vec![self.bytes.clone()];
        graph.resolve(|location| {
            let file = beside.iter().find(|file| file.name == location);
            let file = file.ok_or(std::io::ErrorKind::NotFound)?;
            files.push(file.bytes.clone());
            Ok(file.bytes.clone())
        })?;
        Ok((graph, files))
    }

    fn source(self, origin: &str) -> SourceFile {
        SourceFile {
            name: format!("{origin}, {}", self.name),
            bytes: self.bytes,
        }
    }
}

/// Describes a graph of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphFile {
    /// The file.
    pub name: String,
    /// Its role: an encoder, a joint, ….
    pub role: &'static str,
    /// The layout it is in.
    pub layout: &'static str,
    /// Precision of its weights.
    pub precision: Precision,
    /// Number of its weights.
    pub weights: u64,
    /// Its inputs, with the file's own names.
    pub inputs: Vec<TensorInfo>,
    /// Its outputs, with the file's own names.
    pub outputs: Vec<TensorInfo>,
}

/// A part of a model, with the name of its file.
#[derive(Debug, Clone)]
pub(crate) struct Named<T> {
    pub(crate) name: String,
    pub(crate) part: T,
}

impl<T> Named<T> {
    /// An error about this file.
    pub(crate) fn bad(&self, fault: GraphError) -> Error {
        Error::BadModel {
            path: self.name.clone(),
            fault,
        }
    }
}

/// A canonicalized encoder.
pub(crate) type NamedEncoder = Named<EncoderPart>;

/// The graph of an encoder.
#[derive(Debug, Clone)]
pub(crate) struct EncoderPart {
    pub(crate) graph: Graph,
    pub(crate) contract: Contract,
    /// If `Some`, the weights of `graph` have not been read, because they may not be needed.
    pub(crate) unread: Option<LazyWeights>,
    /// The files that `graph` was read from, if they are compiled in.
    pub(crate) embedded: Vec<Bytes>,
}

/// A graph whose weights have not been read.
#[derive(Debug, Clone)]
pub(crate) struct LazyWeights {
    /// The graph's file, and its external data files.
    pub(crate) files: Vec<PathBuf>,
}

impl LazyWeights {
    /// Reads the whole graph.
    pub(crate) fn read(&self) -> Result<Graph> {
        let path = self.files.first().map_or(Path::new(""), PathBuf::as_path);
        let mut parts = FileSorter::new(directory_of(path), None);
        parts.add(path, Encoders::Use)?;
        match parts.encoder.or(parts.ctc) {
            Some(encoder) => Ok(encoder.part.graph),
            None => Err(parts.first_unrecognized.unwrap_or_else(|| Error::NoModel {
                path: path.into(),
                missing: "encoder",
            })),
        }
    }
}

/// Prediction network and joint, as exported.
#[derive(Debug)]
pub(crate) enum TransducerParts {
    /// In one file.
    Joined(Named<Box<TransducerGraphs>>),
    /// In separate files.
    Apart(Box<(Named<Graph>, Named<Joint>)>),
}

/// The parts of a model, not yet checked against each other.
#[derive(Debug)]
pub(crate) struct ModelFiles {
    /// Where they were read from, for messages.
    pub(crate) origin: String,
    /// Encoder of a transducer.
    pub(crate) encoder: Option<NamedEncoder>,
    /// Decoder of a transducer.
    pub(crate) transducer: Option<TransducerParts>,
    /// Encoder with CTC head.
    pub(crate) ctc: Option<NamedEncoder>,
    /// One of [`VOCABULARIES`].
    pub(crate) vocabulary: SourceFile,
    /// Another one of them, which says how text is divided into tokens, if `vocabulary` does not.
    pub(crate) tokenizer: Option<SourceFile>,
    /// `nemostt.json`, if there is one.
    pub(crate) sidecar: Option<SourceFile>,
    /// All graphs that were read.
    pub(crate) graphs: Vec<GraphFile>,
}

/// Vocabulary files, in order of preference.
const VOCABULARIES: [&str; 5] = [
    "tokens.txt",
    "vocab.txt",
    "tokenizer.model",
    "tokenizer.json",
    "vocab.json",
];
/// Vocabulary files that say how text is divided into tokens, in order of preference.
const TOKENIZERS: [&str; 2] = ["tokenizer.model", "tokenizer.json"];
const SIDECAR: &str = "nemostt.json";

impl ModelFiles {
    /// Reads a model directory, or the directory of the graph file `path`, and uses that graph. Encoders whose files
    /// have at least `lazy_from` bytes are read without their weights.
    pub(crate) fn open(path: &Path, lazy_from: Option<u64>) -> Result<Self> {
        let is_file = fs::metadata(path).map_err(|error| unreadable(path, error))?.is_file();
        let directory = if is_file { directory_of(path) } else { path };

        let mut parts = FileSorter::new(directory, lazy_from);
        if is_file {
            parts.add(path, Encoders::Use)?;
        }
        for candidate in choose(&onnx_files(directory)?, is_file.then_some(path)) {
            let encoders = if is_file { Encoders::Skip } else { Encoders::Use };
            parts.add(&candidate, encoders)?;
        }
        let missing = |missing| Error::NoModel {
            path: directory.into(),
            missing,
        };
        if parts.encoder.is_none() && parts.ctc.is_none() {
            return Err(parts.first_unrecognized.unwrap_or_else(|| missing("encoder")));
        }
        let first = |names: &[&str]| names.iter().map(|name| directory.join(name)).find(|path| path.exists());
        let vocabulary = first(&VOCABULARIES).ok_or_else(|| missing("vocabulary"))?;
        let tokenizer = first(&TOKENIZERS).filter(|path| *path != vocabulary);
        let sidecar = directory.join(SIDECAR);
        let sidecar = sidecar
            .exists()
            .then(|| SourceFile::read(&sidecar, regular_file::SIDECAR))
            .transpose()?;
        let vocabulary = SourceFile::read(&vocabulary, regular_file::VOCABULARY)?;
        let mut files = parts.into_files(path.display().to_string(), vocabulary, sidecar);
        // Without one that can be read, the list of tokens is enough.
        files.tokenizer = tokenizer.and_then(|path| SourceFile::read(&path, regular_file::VOCABULARY).ok());
        Ok(files)
    }

    /// The parts of a model whose files are in memory.
    #[cfg(feature = "embedded-model")]
    pub(crate) fn in_memory(
        origin: &str,
        graphs: &[StaticFile],
        vocabulary: StaticFile,
        sidecar: StaticFile,
    ) -> Result<Self> {
        let mut parts = FileSorter::new(Path::new(origin), None);
        for file in graphs {
            let path = format!("{origin}, {}", file.name);
            let (graph, embedded) = file.graph(graphs).map_err(|fault| Error::BadModel {
                path: path.clone(),
                fault,
            })?;
            let read = ReadGraph {
                graph,
                unread: None,
                embedded,
            };
            parts.sort(path, read, Encoders::Use)?;
        }
        Ok(parts.into_files(origin.into(), vocabulary.source(origin), Some(sidecar.source(origin))))
    }
}

/// A graph from a file, and the fields of [`EncoderPart`] that say where it is from.
struct ReadGraph {
    graph: Graph,
    unread: Option<LazyWeights>,
    embedded: Vec<Bytes>,
}

/// Whether to use an encoder that is found, or to skip it, because one was chosen already.
#[derive(Clone, Copy, PartialEq)]
enum Encoders {
    Use,
    Skip,
}

struct FileSorter<'a> {
    directory: &'a Path,
    /// See [`ModelFiles::open`].
    lazy_from: Option<u64>,
    encoder: Option<NamedEncoder>,
    ctc: Option<NamedEncoder>,
    joined: Option<Named<Box<TransducerGraphs>>>,
    prediction: Option<Named<Graph>>,
    joint: Option<Named<Joint>>,
    /// The error of the first graph that has none of these roles.
    first_unrecognized: Option<Error>,
    graphs: Vec<GraphFile>,
}

impl<'a> FileSorter<'a> {
    fn new(directory: &'a Path, lazy_from: Option<u64>) -> Self {
        Self {
            directory,
            lazy_from,
            encoder: None,
            ctc: None,
            joined: None,
            prediction: None,
            joint: None,
            first_unrecognized: None,
            graphs: Vec::new(),
        }
    }

    /// Reads a file and assigns its role.
    fn add(&mut self, path: &Path, encoders: Encoders) -> Result<()> {
        let name = path.display().to_string();
        if let Some(read) = self.lazy_encoder(path)? {
            return self.sort(name, read, encoders);
        }
        let bad = |fault| Error::BadModel {
            path: name.clone(),
            fault,
        };
        let file = read_file(path).map_err(|error| unreadable(path, error))?;
        if let Some(fault) = not_a_graph(&file) {
            return Err(bad(fault));
        }
        memory_guard::check(format!("decode {name}"))?;
        let mut graph = Graph::decode_file(file).map_err(bad)?;
        let directory = self.directory;
        let mut no_memory = None;
        let attached = graph.attach(|location| {
            let path = directory.join(location);
            read_file(&path).inspect_err(|error| {
                if error.kind() == std::io::ErrorKind::OutOfMemory {
                    no_memory = Some(unreadable(&path, error.kind().into()));
                }
            })
        });
        match (no_memory, attached) {
            (Some(error), _) => return Err(error),
            (None, attached) => attached.map_err(bad)?,
        }
        let read = ReadGraph {
            graph,
            unread: None,
            embedded: Vec::new(),
        };
        self.sort(name, read, encoders)
    }

    /// The graph of a large encoder without its weights. `None` for everything else, including corrupt files: reading
    /// them completely returns the error.
    fn lazy_encoder(&self, path: &Path) -> Result<Option<ReadGraph>> {
        let Some(min_bytes) = self
            .lazy_from
            .filter(|min_bytes| bytes_in(self.directory) >= *min_bytes)
        else {
            return Ok(None);
        };
        memory_guard::check(format!("decode {}", path.display()))?;
        let lazy_encoder = lazy_load(path).ok().filter(|lazy_encoder| {
            let length = |path: &PathBuf| fs::metadata(path).map_or(0, |file| file.len());
            lazy_encoder.graph.is_encoder() && lazy_encoder.files.iter().map(length).sum::<u64>() >= min_bytes
        });
        Ok(lazy_encoder.map(|LazyGraph { graph, files }| ReadGraph {
            graph,
            unread: Some(LazyWeights { files }),
            embedded: Vec::new(),
        }))
    }

    /// Assigns the role of a graph.
    fn sort(&mut self, name: String, read: ReadGraph, encoders: Encoders) -> Result<()> {
        let ReadGraph {
            graph,
            unread,
            embedded,
        } = read;
        let bad = |fault| Error::BadModel {
            path: name.clone(),
            fault,
        };
        let precision = graph.precision();
        let (inputs, outputs, weights) = (graph.inputs(), graph.outputs(), graph.weights());
        let (layout, part) = match import(graph) {
            Ok(imported) => imported,
            // It may belong to something else, such as a voice activity detector, and only matters if there is no
            // encoder.
            Err(fault @ GraphError::UnknownLayout { .. }) => {
                self.first_unrecognized.get_or_insert(bad(fault));
                return Ok(());
            }
            Err(fault) => return Err(bad(fault)),
        };
        self.graphs.push(GraphFile {
            name: name.clone(),
            role: part.name(),
            layout,
            precision,
            weights,
            inputs,
            outputs,
        });
        let use_encoders = encoders == Encoders::Use;
        match part {
            Component::Transducer(part) => self.fill(|parts| &mut parts.joined, "decoder_joint", Named { name, part }),
            Component::Prediction(part) => self.fill(|parts| &mut parts.prediction, "decoder", Named { name, part }),
            Component::Joint(part) => self.fill(|parts| &mut parts.joint, "joiner", Named { name, part }),
            _ if !use_encoders => Ok(()),
            Component::EncoderWithoutCaches => Err(Error::MissingCaches { path: name }),
            Component::Encoder(graph, contract) => {
                let part = EncoderPart {
                    graph,
                    contract,
                    unread,
                    embedded,
                };
                let named = Named { name, part };
                if contract.ctc {
                    self.fill(|parts| &mut parts.ctc, "CTC graph", named)
                } else {
                    self.fill(|parts| &mut parts.encoder, "encoder", named)
                }
            }
        }
    }

    fn fill<T>(
        &mut self,
        slot: impl Fn(&mut Self) -> &mut Option<Named<T>>,
        what: &'static str,
        named: Named<T>,
    ) -> Result<()> {
        let path = self.directory.into();
        let slot = slot(self);
        if let Some(other) = slot {
            return Err(Error::Ambiguous {
                path,
                what,
                found: vec![other.name.clone(), named.name],
            });
        }
        *slot = Some(named);
        Ok(())
    }

    fn into_files(self, origin: String, vocabulary: SourceFile, sidecar: Option<SourceFile>) -> ModelFiles {
        let transducer = match (self.joined, self.prediction, self.joint) {
            (Some(joined), ..) => Some(TransducerParts::Joined(joined)),
            (None, Some(prediction), Some(joint)) => Some(TransducerParts::Apart(Box::new((prediction, joint)))),
            _ => None,
        };
        ModelFiles {
            origin,
            encoder: self.encoder,
            transducer,
            ctc: self.ctc,
            vocabulary,
            tokenizer: None,
            sidecar,
            graphs: self.graphs,
        }
    }
}

/// The error for a file that cannot be read.
fn unreadable(path: &Path, source: std::io::Error) -> Error {
    match source.kind() {
        std::io::ErrorKind::OutOfMemory => Error::OutOfMemory {
            doing: format!("read {}", path.display()),
            reason: source.to_string(),
        },
        _ => Error::Read {
            path: path.into(),
            source,
        },
    }
}

/// The directory of a file.
fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

/// Size of all files in a directory.
fn bytes_in(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    // Follows symbolic links, because download caches use them.
    files
        .filter_map(|file| Some(fs::metadata(file.path()).ok()?.len()))
        .sum()
}

fn onnx_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| unreadable(directory, error);
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "onnx") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

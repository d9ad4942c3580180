// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which file of a model directory is what.
//!
//! Graphs are told apart by their inputs and outputs, not by their names, so a renamed export still loads.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::sniff::not_a_graph;
use crate::{
    error::{Error, Result},
    graph::{Graph, read_file},
};

/// A file's bytes and what to call it in messages.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) bytes: Bytes,
}

impl Source {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(|source| Error::Read {
            path: path.into(),
            source,
        })?;
        Ok(Self {
            name: path.display().to_string(),
            bytes: bytes.into(),
        })
    }
}

/// A decoded graph with the name of its file.
#[derive(Debug)]
pub(crate) struct NamedGraph {
    pub(crate) name: String,
    pub(crate) graph: Graph,
}

/// The parts of a model, read but not checked against each other.
#[derive(Debug)]
pub(crate) struct Files {
    /// Where they came from, for messages.
    pub(crate) origin: String,
    /// Encoder of a transducer.
    pub(crate) encoder: Option<NamedGraph>,
    /// Prediction network and joint in one graph.
    pub(crate) decoder_joint: Option<NamedGraph>,
    /// Encoder with CTC head in one graph.
    pub(crate) ctc: Option<NamedGraph>,
    /// `tokens.txt`, `vocab.txt` or `tokenizer.model`.
    pub(crate) vocabulary: Source,
    /// `nemostt.json`, if there is one.
    pub(crate) sidecar: Option<Source>,
}

/// Vocabulary files, the best first.
const VOCABULARIES: [&str; 3] = ["tokens.txt", "vocab.txt", "tokenizer.model"];
const SIDECAR: &str = "nemostt.json";

impl Files {
    /// Reads a model directory, or the directory of the one graph that `path` names.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let unreadable = |source| Error::Read {
            path: path.into(),
            source,
        };
        let is_file = fs::metadata(path).map_err(unreadable)?.is_file();
        let directory = if is_file {
            path.parent().unwrap_or(Path::new("."))
        } else {
            path
        };
        let directory = if directory.as_os_str().is_empty() {
            Path::new(".")
        } else {
            directory
        };

        let mut parts = Parts::new(directory);
        if is_file {
            parts.add(path, true)?;
        }
        for candidate in onnx_files(directory)? {
            if candidate != path {
                parts.add(&candidate, !is_file)?;
            }
        }
        let missing = |missing| Error::NoModel {
            path: directory.into(),
            missing,
        };
        if parts.encoder.is_none() && parts.ctc.is_none() {
            return Err(missing("encoder"));
        }
        let vocabulary = VOCABULARIES
            .iter()
            .map(|name| directory.join(name))
            .find(|path| path.exists());
        let vocabulary = vocabulary.ok_or_else(|| missing("vocabulary"))?;
        let sidecar = directory.join(SIDECAR);
        Ok(Self {
            origin: path.display().to_string(),
            vocabulary: Source::read(&vocabulary)?,
            sidecar: sidecar.exists().then(|| Source::read(&sidecar)).transpose()?,
            encoder: parts.encoder,
            decoder_joint: parts.decoder_joint,
            ctc: parts.ctc,
        })
    }
}

struct Parts<'a> {
    directory: &'a Path,
    encoder: Option<NamedGraph>,
    decoder_joint: Option<NamedGraph>,
    ctc: Option<NamedGraph>,
}

impl<'a> Parts<'a> {
    fn new(directory: &'a Path) -> Self {
        Self {
            directory,
            encoder: None,
            decoder_joint: None,
            ctc: None,
        }
    }

    /// Puts a file where it belongs. Without `encoders`, one that holds an encoder is passed over.
    fn add(&mut self, path: &Path, encoders: bool) -> Result<()> {
        let name = path.display().to_string();
        let bad = |reason| Error::BadModel {
            path: name.clone(),
            reason,
        };
        let file = read_file(path).map_err(|source| Error::Read {
            path: path.into(),
            source,
        })?;
        if let Some(what) = not_a_graph(&file) {
            return Err(bad(what.into()));
        }
        let mut graph = Graph::decode_file(file).map_err(bad)?;
        let (slot, what) = match Role::of(&graph) {
            Role::DecoderJoint => (&mut self.decoder_joint, "decoder_joint"),
            _ if !encoders => return Ok(()),
            Role::Encoder => (&mut self.encoder, "encoder"),
            Role::Ctc => (&mut self.ctc, "CTC graph"),
            Role::EncoderWithoutCaches => return Err(Error::MissingCaches { path: name }),
            Role::Unknown => {
                let inputs: Vec<String> = graph.inputs().into_iter().map(|input| input.name).collect();
                return Err(bad(format!(
                    "it takes {}, which is none of NeMo's streaming graphs",
                    inputs.join(", ")
                )));
            }
        };
        if let Some(other) = slot {
            return Err(Error::Ambiguous {
                path: self.directory.into(),
                what,
                found: vec![other.name.clone(), name],
            });
        }
        graph
            .attach(|location| read_file(&self.directory.join(location)))
            .map_err(bad)?;
        *slot = Some(NamedGraph { name, graph });
        Ok(())
    }
}

enum Role {
    Encoder,
    EncoderWithoutCaches,
    Ctc,
    DecoderJoint,
    Unknown,
}

impl Role {
    fn of(graph: &Graph) -> Self {
        let takes = |name| graph.input(name).is_some();
        let gives = |name| graph.output(name).is_some();
        match () {
            _ if takes("encoder_outputs") && takes("targets") => Self::DecoderJoint,
            _ if takes("audio_signal") && !takes("cache_last_channel") => Self::EncoderWithoutCaches,
            _ if takes("audio_signal") && gives("logprobs") => Self::Ctc,
            _ if takes("audio_signal") && gives("outputs") => Self::Encoder,
            _ => Self::Unknown,
        }
    }
}

fn onnx_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |source| Error::Read {
        path: directory.into(),
        source,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "onnx") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

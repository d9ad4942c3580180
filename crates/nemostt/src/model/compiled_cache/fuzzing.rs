// SPDX-License-Identifier: MIT OR Apache-2.0

//! See [`crate::fuzzing`].

use std::fs;

use serde_json::Value;

use super::format::{self, EntryWriter};
use crate::model::compile::CompiledEncoder;
use nemostt_compiler::{Component, Precision, StreamingConfig, fuzzing, import, specialize};

/// Of all entries of the corpus.
const KEY: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Magic, length of the head, its hash.
const PREFIX: usize = 8 + 8 + blake3::OUT_LEN;
/// Values of weights that are multiplied with.
const MOST: usize = 1 << 16;

/// An entry of the cache as it is, and with the hashes that its parts need.
pub fn cache_entry(bytes: &[u8]) {
    start(bytes);
    if let Some(sealed) = sealed(bytes) {
        start(&sealed);
    }
}

/// Reads an entry, and does what is done with it before ONNX Runtime gets it.
fn start(bytes: &[u8]) {
    thread_local! {
        static DIRECTORY: tempfile::TempDir = tempfile::tempdir().expect("a directory for temporary files");
    }
    let read = DIRECTORY.with(|directory| {
        let path = directory.path().join("entry");
        fs::write(&path, bytes).expect("room for an entry");
        format::read(&path, KEY, width(bytes))
    });
    let Ok((prepared, _)) = read else { return };
    for weights in &prepared.encoded.products {
        let (depth, columns) = (weights.k(), weights.n());
        if depth.saturating_mul(columns) <= MOST {
            let mut output = vec![0.0; columns];
            weights.multiply_single_threaded(&vec![1.0; depth], &mut output);
        }
    }
    // What was read can be written, and is then the same.
    let again = EntryWriter::new(KEY, &prepared).expect("it was read");
    let mut written = Vec::new();
    again.write(&mut written).expect("there is memory");
    assert_eq!(written.len() as u64, again.length());
    fuzzing::finish(prepared.encoded);
}

/// The width of windows that an entry is for.
fn width(bytes: &[u8]) -> usize {
    let found = || parts(bytes)?.0.get("width")?.as_u64();
    found().and_then(|width| usize::try_from(width).ok()).unwrap_or(1)
}

/// The head of an entry, and what comes behind it.
fn parts(bytes: &[u8]) -> Option<(Value, &[u8])> {
    let (prefix, rest) = bytes.split_at_checked(PREFIX)?;
    let length = u64::from_le_bytes(prefix.get(8..16)?.try_into().ok()?);
    let (head, parts) = rest.split_at(rest.len().min(usize::try_from(length).ok()?));
    Some((serde_json::from_slice(head).ok()?, parts))
}

/// The same entry, with the right magic, key and hashes.
fn sealed(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut head, all) = parts(bytes)?;
    *head.get_mut("key")? = KEY.into();
    let mut rest = all;
    for name in ["graph", "graph_weights", "columns", "panels"] {
        for piece in head.get_mut(name)?.as_array_mut()? {
            let length = usize::try_from(piece.get(0)?.as_u64()?).ok()?;
            let (part, behind) = rest.split_at_checked(length)?;
            rest = behind;
            *piece.get_mut(1)? = blake3::hash(part).to_hex().to_string().into();
        }
    }
    let head = serde_json::to_vec(&head).ok()?;
    let length = (head.len() as u64).to_le_bytes();
    Some([&bytes[..8], &length, blake3::hash(&head).as_bytes(), &head, all].concat())
}

/// What the cache would keep of the first graph in `model`, with the weights of the corpus: an encoder, or what goes behind it of
/// a joint. `None` where it is neither.
pub fn cache_entry_of(model: &[u8]) -> Option<Vec<u8>> {
    let prepared = match import(fuzzing::read(model.into())?).ok()?.1 {
        Component::Encoder(mut graph, _) => {
            let streaming = StreamingConfig::read(&graph).ok()?;
            let plan = specialize(&mut graph, &streaming, 0).ok()?;
            graph.fuse();
            graph.prepack_matmuls().ok()?;
            CompiledEncoder {
                encoded: graph.encode(),
                states: plan.states,
                width: Some(plan.width),
                precision: Precision::Fp32,
            }
        }
        Component::Transducer(graphs) => CompiledEncoder {
            encoded: fuzzing::halves(&graphs.joint)?.1?.encode(),
            states: Vec::new(),
            width: Some(1),
            precision: Precision::Fp32,
        },
        _ => return None,
    };
    let mut bytes = Vec::new();
    EntryWriter::new(KEY, &prepared).ok()?.write(&mut bytes).ok()?;
    Some(bytes)
}

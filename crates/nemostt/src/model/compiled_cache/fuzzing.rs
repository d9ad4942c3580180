// SPDX-License-Identifier: MIT OR Apache-2.0

//! See [`crate::fuzzing`].

use std::fs;

use serde_json::Value;

use super::format::{self, EntryWriter};
use crate::model::compile::CompiledEncoder;
use nemostt_compiler::{
    Component, Precision, StreamingConfig, fuzzing, import,
    pipeline::{Recorder, Target},
};

/// Key of all entries of the corpus.
const KEY: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Bytes before the header: magic, length of the header, its hash.
const PREFIX: usize = 8 + 8 + blake3::OUT_LEN;
/// Maximum elements of weights that are multiplied.
const MAX_ELEMENTS: usize = 1 << 16;

/// An entry, unmodified and with corrected hashes.
pub fn cache_entry(bytes: &[u8]) {
    start(bytes);
    if let Some(sealed) = sealed(bytes) {
        start(&sealed);
    }
}

/// Reads an entry, and processes it as before it is passed to ONNX Runtime.
fn start(bytes: &[u8]) {
    thread_local! {
        static DIRECTORY: tempfile::TempDir = tempfile::tempdir().expect("a directory for temporary files");
    }
    let read = DIRECTORY.with(|directory| {
        let path = directory.path().join("entry");
        fs::write(&path, bytes).expect("the entry is written");
        format::read(&path, KEY, width(bytes))
    });
    let Ok((compiled, _)) = read else { return };
    for weights in &compiled.encoded.packed_weights {
        let (k, n) = (weights.k(), weights.n());
        if k.saturating_mul(n) <= MAX_ELEMENTS {
            let mut output = vec![0.0; n];
            weights.multiply(&vec![1.0; k], None, &mut output);
        }
    }
    // An entry that was read can be written again, with the same size.
    let rewritten = EntryWriter::new(KEY, &compiled).expect("it was read");
    let mut written = Vec::new();
    rewritten.write(&mut written).expect("there is memory");
    assert_eq!(written.len() as u64, rewritten.length());
    fuzzing::finish(compiled.encoded);
}

/// The window width of an entry.
fn width(bytes: &[u8]) -> usize {
    let found = || parts(bytes)?.0.get("width")?.as_u64();
    found().and_then(|width| usize::try_from(width).ok()).unwrap_or(1)
}

/// The header of an entry, and the sections after it.
fn parts(bytes: &[u8]) -> Option<(Value, &[u8])> {
    let (prefix, rest) = bytes.split_at_checked(PREFIX)?;
    let length = u64::from_le_bytes(prefix.get(8..16)?.try_into().ok()?);
    let (head, parts) = rest.split_at(rest.len().min(usize::try_from(length).ok()?));
    Some((serde_json::from_slice(head).ok()?, parts))
}

/// The same entry with the correct magic, key and hashes.
fn sealed(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut head, all) = parts(bytes)?;
    *head.get_mut("key")? = KEY.into();
    let mut rest = all;
    for name in ["graph", "graph_weights", "columns", "panels"] {
        for chunk in head.get_mut(name)?.as_array_mut()? {
            let length = usize::try_from(chunk.get(0)?.as_u64()?).ok()?;
            let (part, after) = rest.split_at_checked(length)?;
            rest = after;
            *chunk.get_mut(1)? = blake3::hash(part).to_hex().to_string().into();
        }
    }
    let head = serde_json::to_vec(&head).ok()?;
    let length = (head.len() as u64).to_le_bytes();
    Some([&bytes[..8], &length, blake3::hash(&head).as_bytes(), &head, all].concat())
}

/// A cache entry of the first graph in `model`, with the weights of the corpus: an encoder, or the head of a joint.
/// `None` if it is neither.
pub fn cache_entry_of(model: &[u8]) -> Option<Vec<u8>> {
    let compiled = match import(fuzzing::read(model.into())?).ok()?.1 {
        Component::Encoder(mut graph, _) => {
            let streaming = StreamingConfig::read(&graph).ok()?;
            let target = Target {
                custom_ops: true,
                int8: None,
                convert_fp16: true,
                clip_to_min_max: false,
            };
            let mut recorder = Recorder::default();
            let mut specialized = recorder.specialize(&mut graph, &streaming, 0).ok()?;
            recorder.fuse(&mut graph, &mut specialized, &streaming, &target);
            recorder.prepack(&mut graph, &target).ok()?;
            CompiledEncoder {
                encoded: graph.encode(),
                states: specialized.states,
                width: Some(specialized.width),
                precision: Precision::Fp32,
                passes: recorder.reports,
            }
        }
        Component::Transducer(graphs) => CompiledEncoder {
            encoded: fuzzing::halves(&graphs.joint)?.1?.encode(),
            states: Vec::new(),
            width: Some(1),
            precision: Precision::Fp32,
            passes: Vec::new(),
        },
        _ => return None,
    };
    let mut bytes = Vec::new();
    EntryWriter::new(KEY, &compiled).ok()?.write(&mut bytes).ok()?;
    Some(bytes)
}

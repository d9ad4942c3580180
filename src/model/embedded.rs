// SPDX-License-Identifier: MIT OR Apache-2.0

//! The small model that is compiled in, so that the plugin works with no file at all.
//!
//! It was trained for this project on synthetic voices and knows about 100 words: a demonstration and a test, not a
//! transcriber. See `assets/demo-model/README.md`.

use bytes::Bytes;

use super::files::{Files, NamedGraph, Source};
use crate::{
    error::{Error, Result},
    graph::Graph,
};

macro_rules! asset {
    ($name:literal) => {
        Source {
            name: concat!("embedded model, ", $name).into(),
            bytes: Bytes::from_static(include_bytes!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/assets/demo-model/",
                $name
            ))),
        }
    };
}

/// Its lookahead in milliseconds, for whoever must know before it is loaded.
pub const EMBEDDED_LOOKAHEAD: u32 = 1040;

pub(crate) fn files() -> Result<Files> {
    Ok(Files {
        origin: "embedded model".into(),
        encoder: Some(decode(asset!("encoder-model.onnx"))?),
        decoder_joint: Some(decode(asset!("decoder_joint-model.onnx"))?),
        ctc: Some(decode(asset!("ctc.onnx"))?),
        vocabulary: asset!("tokens.txt"),
        sidecar: Some(asset!("nemostt.json")),
    })
}

fn decode(source: Source) -> Result<NamedGraph> {
    let Source { name, bytes } = source;
    match Graph::decode(bytes) {
        Ok(graph) => Ok(NamedGraph { name, graph }),
        Err(reason) => Err(Error::BadModel { path: name, reason }),
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The small model that is compiled in, so that the plugin works with no file at all.
//!
//! It was trained for this project on synthetic voices and knows about 100 words: a demonstration and a test, not a
//! transcriber. See `assets/demo-model/README.md`.

use bytes::Bytes;

use super::directory::{ModelFiles, SourceFile};
use crate::error::Result;

macro_rules! asset {
    ($name:literal) => {
        SourceFile {
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

pub(crate) fn files() -> Result<ModelFiles> {
    ModelFiles::in_memory(
        "embedded model",
        [
            asset!("encoder-model.onnx"),
            asset!("decoder_joint-model.onnx"),
            asset!("ctc.onnx"),
        ],
        asset!("tokens.txt"),
        Some(asset!("nemostt.json")),
    )
}

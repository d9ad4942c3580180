// SPDX-License-Identifier: MIT OR Apache-2.0

//! The built-in demo model, so that the plugin works without any file.
//!
//! It was trained for this project on synthetic voices and knows about 100 words: for demonstration and tests only. See
//! `assets/demo-model/README.md`.

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

/// The demo model's lookahead in milliseconds, which is known before it is loaded.
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

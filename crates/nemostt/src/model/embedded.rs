// SPDX-License-Identifier: MIT OR Apache-2.0

//! The built-in demo model, so that the plugin works without any file.
//!
//! It was trained for this project on synthetic voices and knows about 100 words: for demonstration and tests only. See
//! `assets/demo-model/README.md`.

use bytes::Bytes;

use super::directory::{ModelFiles, StaticFile};
use crate::error::Result;

macro_rules! asset {
    ($name:literal) => {
        StaticFile {
            name: $name,
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
        &graphs(),
        asset!("tokens.txt"),
        asset!("nemostt.json"),
    )
}

fn graphs() -> [StaticFile; 3] {
    [
        asset!("encoder-model.onnx"),
        asset!("decoder_joint-model.onnx"),
        // Its encoder is the same; it takes most weights from encoder-model.onnx (tools/share_weights.py).
        asset!("ctc.onnx"),
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is how a test fails
mod tests {
    use super::*;

    /// BLAKE3 of the graphs as NeMo exported them (their position tables cut), each with all its weights.
    const EXPORTED: [&str; 3] = [
        "462b3cf3cc62a7d31106467693f22b0c60b8b6998329890486e7369efe505a05",
        "c8b81478bdf895478ef7711a7e30d0b17d50cc37e5b0e8b8fb993c667ba74d44",
        "347497fdb43653d42fd2216fd99552338f283302e9239c6fd76d2264763650e2",
    ];

    #[test]
    fn sharing_weights_changes_no_byte_of_the_exports() {
        let graphs = graphs();
        for (file, exported) in graphs.iter().zip(EXPORTED) {
            let model = file.graph(&graphs).unwrap().0.encode().model;
            assert_eq!(blake3::hash(&model).to_hex().as_str(), exported, "{}", file.name);
        }
    }
}

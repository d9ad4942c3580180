// SPDX-License-Identifier: MIT OR Apache-2.0

//! Entry points for the fuzz targets in `fuzz/`. Each takes the bytes of a file or cache entry, and processes them as
//! loading does, up to ONNX Runtime. Input is either rejected with an error, or the result must be valid.
//!
//! They are part of builds with feature `fuzzing`, and of tests, which replay the corpus.

#[cfg(feature = "triton")]
pub use crate::model::twin::{TWIN, serve_twin};
pub use crate::{
    boosting::fuzzing::hotwords,
    language_model::fuzzing::language_model,
    model::failing_device::FailingDevice,
    model::fuzzing::{cache_entry, cache_entry_of, sidecar},
    text::fuzzing::{text_shaping, vocabulary},
};
pub use nemostt_compiler::fuzzing::{onnx, onnx_graph, weights};
#[cfg(feature = "triton")]
pub use nemostt_triton::mock;

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Runs the corpus of `target`.
    fn replay(target: &str, run: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../fuzz/corpus")
            .join(target);
        let mut found = 0;
        for entry in std::fs::read_dir(&corpus).unwrap() {
            let path = entry.unwrap().path();
            // Printed only if the test fails.
            println!("{}", path.display());
            run(&std::fs::read(&path).unwrap());
            found += 1;
        }
        assert!(found > 0, "{} is empty", corpus.display());
    }

    #[test]
    fn vocabulary_corpus_is_rejected_or_valid() {
        replay("vocabulary", super::vocabulary);
    }

    #[test]
    fn hotwords_corpus_is_rejected_or_valid() {
        replay("hotwords", super::hotwords);
    }

    #[test]
    fn text_shaping_corpus_is_rejected_or_valid() {
        replay("text_shaping", super::text_shaping);
    }

    #[test]
    fn language_model_corpus_is_rejected_or_valid() {
        replay("language_model", super::language_model);
    }

    #[test]
    fn sidecar_corpus_is_rejected_or_valid() {
        replay("sidecar", super::sidecar);
    }

    #[test]
    fn cache_entry_corpus_is_rejected_or_valid() {
        replay("cache_entry", super::cache_entry);
    }
}

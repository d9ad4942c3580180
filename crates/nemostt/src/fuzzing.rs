// SPDX-License-Identifier: MIT OR Apache-2.0

//! Entry points for the fuzz targets in `fuzz/`. Each takes bytes as a file or a cache would give them and goes as far
//! with them as a load does, but for ONNX Runtime; what is refused is refused with an error, and what is accepted must
//! be usable.
//!
//! Feature `fuzzing` adds them; tests are built with them, too, to replay the corpus.

pub use crate::{
    model::fuzzing::{cache_entry, cache_entry_of, sidecar},
    text::fuzzing::vocabulary,
};
pub use nemostt_compiler::fuzzing::{onnx, onnx_graph, weights};

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Runs what is in the corpus of `target`.
    fn replay(target: &str, run: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../fuzz/corpus")
            .join(target);
        let mut found = 0;
        for entry in std::fs::read_dir(&corpus).unwrap() {
            let path = entry.unwrap().path();
            // It is captured, and shown with the panic that it led to.
            println!("{}", path.display());
            run(&std::fs::read(&path).unwrap());
            found += 1;
        }
        assert!(found > 0, "{} is empty", corpus.display());
    }

    #[test]
    fn the_corpus_of_vocabularies_is_refused_or_usable() {
        replay("vocabulary", super::vocabulary);
    }

    #[test]
    fn the_corpus_of_sidecars_is_refused_or_usable() {
        replay("sidecar", super::sidecar);
    }

    #[test]
    fn the_corpus_of_cache_entries_is_refused_or_usable() {
        replay("cache_entry", super::cache_entry);
    }
}

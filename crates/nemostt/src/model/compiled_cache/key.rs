// SPDX-License-Identifier: MIT OR Apache-2.0

//! What an entry is called: a hash of all that decides what is in it.

use blake3::{Hash, Hasher};

use crate::model::options::{Options, PrecisionChoice};
use nemostt_compiler::Bits;
use nemostt_kernels::gemm;

/// What the key hashes, besides the files.
pub(super) fn key_inputs(lookahead: usize, options: &Options) -> String {
    // `threads` is no part of it, nor is the release of ONNX Runtime: it gets the graph as it is before its own work on it.
    let precision = match options.precision {
        PrecisionChoice::Int8 => match Bits::detect() {
            Bits::Seven => "int8 with 7 bits",
            Bits::Eight => "int8",
        },
        PrecisionChoice::Auto | PrecisionChoice::Fp32 => "fp32",
    };
    let products = match gemm::is_supported() {
        true => gemm::packing_id(),
        false => "none".into(),
    };
    format!(
        "nemostt {}, compiler {}, kernels {}, made by {}; lookahead {lookahead}; {precision}; products: {products}",
        env!("CARGO_PKG_VERSION"),
        nemostt_compiler::VERSION,
        nemostt_kernels::VERSION,
        // A hash of the code that rewrites graphs: see `build.rs`.
        env!("NEMOSTT_COMPILER_HASH")
    )
}

/// The key of a graph in `files`.
pub(super) fn key(files: &[Hash], key_inputs: &str) -> String {
    let mut hasher = Hasher::new();
    for file in files {
        hasher.update(file.as_bytes());
    }
    hasher.update(key_inputs.as_bytes());
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_changes_the_graph_changes_the_key() {
        let files = [blake3::hash(b"a"), blake3::hash(b"b")];
        let int8 = Options {
            precision: PrecisionChoice::Int8,
            ..Default::default()
        };
        let of = |lookahead, options: &Options| key_inputs(lookahead, options);
        let keys = [
            key(&files, &of(1, &Options::default())),
            key(&files, &of(13, &Options::default())),
            key(&files, &of(1, &int8)),
            key(&files[..1], &of(1, &Options::default())),
            key(&[files[1], files[0]], &of(1, &Options::default())),
        ];
        for (index, one) in keys.iter().enumerate() {
            assert!(one.len() == 64 && !keys[..index].contains(one), "{keys:?}");
        }
        let same = Options {
            threads: 3,
            precision: PrecisionChoice::Fp32,
            ..Default::default()
        };
        assert_eq!(key(&files, &of(1, &same)), keys[0]);
    }
}

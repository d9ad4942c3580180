// SPDX-License-Identifier: MIT OR Apache-2.0

//! The name of an entry: a hash of everything that its contents depend on.

use blake3::{Hash, Hasher};

use nemostt_compiler::{Bits, pipeline::Target};
use nemostt_kernels::gemm;

/// The inputs of the key besides the files.
pub(super) fn key_inputs(lookahead: usize, target: Target) -> String {
    // Not included: `threads`, and the version of ONNX Runtime, because the graph is cached as it is before ONNX
    // Runtime optimizes it.
    let precision = match target.int8 {
        Some(Bits::Seven) => "int8 with 7 bits",
        Some(Bits::Eight) => "int8",
        None => "fp32",
    };
    let kernels = match target.custom_ops {
        true => gemm::packing_id(),
        false => "none".into(),
    };
    format!(
        "nemostt {}, compiler {}, kernels {}, made by {}; lookahead {lookahead}; {precision}; weights: {kernels}",
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
    fn key_changes_with_each_input() {
        let files = [blake3::hash(b"a"), blake3::hash(b"b")];
        let plain = Target {
            custom_ops: false,
            int8: None,
            convert_fp16: true,
            clip_to_min_max: false,
        };
        let kernels = Target {
            custom_ops: true,
            ..plain
        };
        let int8 = |bits| Target {
            int8: Some(bits),
            ..plain
        };
        let keys = [
            key(&files, &key_inputs(1, plain)),
            key(&files, &key_inputs(13, plain)),
            key(&files, &key_inputs(1, kernels)),
            key(&files, &key_inputs(1, int8(Bits::Seven))),
            key(&files, &key_inputs(1, int8(Bits::Eight))),
            key(&files[..1], &key_inputs(1, plain)),
            key(&[files[1], files[0]], &key_inputs(1, plain)),
        ];
        for (index, one) in keys.iter().enumerate() {
            assert!(one.len() == 64 && !keys[..index].contains(one), "{keys:?}");
        }
        assert_eq!(key(&files, &key_inputs(1, plain)), keys[0]);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use nemostt_fuzz::mutate;

fuzz_target!(|bytes: &[u8]| nemostt::fuzzing::onnx_graph(bytes));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::model(&mut data[..max_size], size, seed).unwrap_or_else(|| fuzzer_mutate(data, size, max_size))
});

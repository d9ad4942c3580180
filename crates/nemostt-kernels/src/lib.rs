// SPDX-License-Identifier: MIT OR Apache-2.0

#![doc = include_str!("../README.md")]
#![warn(unreachable_pub)]

pub mod executor;
pub mod fused_op;
pub mod gemm;
pub mod glu_depthwise_conv;
pub mod isa;
pub mod joint_add_relu;
pub mod layer_norm;
pub mod logits;
pub mod lstm_cell;
pub mod packed_matmul;
mod prefetch;
pub mod rel_pos_attention;
pub mod row_ops;
mod simd_math;
pub mod strided_conv;

/// Part of the key of everything that is compiled with this crate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Number of proptest cases; few under Miri, where each takes seconds.
#[cfg(test)]
fn cases(count: u32) -> proptest::test_runner::Config {
    proptest::test_runner::Config::with_cases(if cfg!(miri) { 2 } else { count })
}

/// Upper limit of a size in tests; under Miri a tenth, but at least 4.
#[cfg(test)]
fn most(size: usize) -> usize {
    if cfg!(miri) { (size / 10).max(4) } else { size }
}

/// Deterministic noise between -1 and 1.
#[cfg(test)]
fn noise(count: usize, mut seed: u32) -> Vec<f32> {
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from((seed >> 16) as u16) / 32_768.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

// SPDX-License-Identifier: MIT OR Apache-2.0

#![doc = include_str!("../README.md")]
#![warn(unreachable_pub)]

pub mod executor;
pub mod gemm;
pub mod glu_depthwise_conv;
pub mod isa;
pub mod joint_add_relu;
pub mod layer_norm;
pub mod logits;
pub mod lstm_cell;
mod prefetch;
pub mod rel_pos_attention;
mod simd_math;
pub mod strided_conv;

/// The version of this crate: a part of the key of what was compiled with it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How many cases of a property to try, where `count` are enough: Miri takes seconds for each.
#[cfg(test)]
fn cases(count: u32) -> proptest::test_runner::Config {
    proptest::test_runner::Config::with_cases(if cfg!(miri) { 2 } else { count })
}

/// A size below which sizes are tried: a tenth under Miri, but for what is small.
#[cfg(test)]
fn most(size: usize) -> usize {
    if cfg!(miri) { (size / 10).max(4) } else { size }
}

/// Repeatable noise between -1 and 1.
#[cfg(test)]
fn noise(count: usize, mut seed: u32) -> Vec<f32> {
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from((seed >> 16) as u16) / 32_768.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The arithmetic of our own operations, which `model/runtime/custom_ops` gives to ONNX Runtime.
//!
//! | operation | in place of |
//! |---|---|
//! | [`gemm`] | products with constant weights |
//! | [`rel_pos_attention`] | the 20 nodes of relative attention between its products |
//! | [`glu_depthwise_conv`] | the 12 nodes between a convolution module's products |
//! | [`layer_norm`] | a layer normalisation, and the gate behind it |
//! | [`lstm_cell`] | the 10 nodes behind the products of an LSTM |
//! | [`joint_add_relu`] | the 2 nodes between a joint's projections and its scores |
//! | [`executor`] | all of those, one after the other |
//! | [`strided_conv`] | strided convolutions in front of the layers, with the masks and the activations around them |
//!
//! [`logits`] are what decoders make of the result. Nothing here knows of graphs. Vectors are as long as the processor's: `pulp` picks the code when it runs.

pub(crate) mod executor;
pub(crate) mod gemm;
pub(crate) mod glu_depthwise_conv;
pub(crate) mod joint_add_relu;
pub(crate) mod layer_norm;
pub(crate) mod logits;
pub(crate) mod lstm_cell;
mod prefetch;
pub(crate) mod rel_pos_attention;
mod simd_math;
pub(crate) mod strided_conv;

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

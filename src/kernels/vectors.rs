// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sums over vectors of any length.

use pulp::Simd;

/// `Σ a·b`. Both must be of the same length.
#[inline(always)]
pub(super) fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    // Four sums, for a processor begins the next one before the last one is done.
    let mut sums = [simd.splat_f32s(0.0); 4];
    let ((a_turns, a_left), (b_turns, b_left)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    for (a, b) in a_turns.iter().zip(b_turns) {
        for lane in 0..4 {
            sums[lane] = simd.mul_add_f32s(a[lane], b[lane], sums[lane]);
        }
    }
    for (&a, &b) in a_left.iter().zip(b_left) {
        sums[0] = simd.mul_add_f32s(a, b, sums[0]);
    }
    let rest = simd.mul_f32s(simd.partial_load_f32s(a_rest), simd.partial_load_f32s(b_rest));
    let pairs = [simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3])];
    simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(pairs[0], pairs[1]), rest))
}

/// `sums += factor · values`. Both must be of the same length.
#[inline(always)]
pub(super) fn add_scaled<S: Simd>(simd: S, sums: &mut [f32], factor: f32, values: &[f32]) {
    let ((sums, sums_rest), (values, values_rest)) = (S::as_mut_simd_f32s(sums), S::as_simd_f32s(values));
    let many = simd.splat_f32s(factor);
    for (sum, &value) in sums.iter_mut().zip(values) {
        *sum = simd.mul_add_f32s(many, value, *sum);
    }
    for (sum, &value) in sums_rest.iter_mut().zip(values_rest) {
        *sum = factor.mul_add(value, *sum);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Vectorized reductions and elementary functions.

use pulp::Simd;

/// `Σ a·b` of slices of the same length.
#[inline(always)]
pub(super) fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    // Four accumulators, to hide the latency of FMA.
    let mut acc = [simd.splat_f32s(0.0); 4];
    let ((a_blocks, a_left), (b_blocks, b_left)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..4 {
            acc[lane] = simd.mul_add_f32s(a[lane], b[lane], acc[lane]);
        }
    }
    for (&a, &b) in a_left.iter().zip(b_left) {
        acc[0] = simd.mul_add_f32s(a, b, acc[0]);
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    let pairs = [simd.add_f32s(acc[0], acc[1]), simd.add_f32s(acc[2], acc[3])];
    simd.reduce_sum_f32s(simd.add_f32s(pairs[0], pairs[1])) + rest
}

/// `Σ f(x)`; `f` is given for vectors and for scalars.
#[inline(always)]
pub(super) fn map_sum<S: Simd>(simd: S, x: &[f32], f: impl Fn(S::f32s) -> S::f32s, scalar: impl Fn(f32) -> f32) -> f32 {
    let (vectors, rest) = S::as_simd_f32s(x);
    // Four accumulators, as in `dot`.
    let mut acc = [simd.splat_f32s(0.0); 4];
    let (blocks, left) = vectors.as_chunks::<4>();
    for block in blocks {
        for lane in 0..4 {
            acc[lane] = simd.add_f32s(acc[lane], f(block[lane]));
        }
    }
    for &vector in left {
        acc[0] = simd.add_f32s(acc[0], f(vector));
    }
    let pairs = [simd.add_f32s(acc[0], acc[1]), simd.add_f32s(acc[2], acc[3])];
    simd.reduce_sum_f32s(simd.add_f32s(pairs[0], pairs[1])) + rest.iter().map(|&x| scalar(x)).sum::<f32>()
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(super) fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    simd.div_f32s(one, simd.add_f32s(one, exp(simd, simd.neg_f32s(x))))
}

/// The hyperbolic tangent, with an error of a few ULP.
///
/// It is `1 - 2 / (e^2x + 1)`, except for small x, where that cancels: there it is a polynomial (Cephes' `tanhf`).
#[inline(always)]
pub(super) fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    const COEFFICIENTS: [f32; 5] = [
        -5.704_988_7e-3,
        2.063_909e-2,
        -5.373_971_6e-2,
        1.333_144_2e-1,
        -3.333_328e-1,
    ];
    const SMALL: f32 = 0.625;
    let splat = |value: f32| simd.splat_f32s(value);
    let magnitude = simd.abs_f32s(x);
    let x_squared = simd.mul_f32s(x, x);
    let mut sum = splat(COEFFICIENTS[0]);
    for &coefficient in &COEFFICIENTS[1..] {
        sum = simd.mul_add_f32s(sum, x_squared, splat(coefficient));
    }
    let small = simd.mul_add_f32s(simd.mul_f32s(sum, x_squared), x, x);
    let exp_2x = exp(simd, simd.add_f32s(magnitude, magnitude));
    let large = simd.sub_f32s(splat(1.0), simd.div_f32s(splat(2.0), simd.add_f32s(exp_2x, splat(1.0))));
    let large = simd.select_f32s(simd.less_than_f32s(x, splat(0.0)), simd.neg_f32s(large), large);
    simd.select_f32s(simd.less_than_f32s(magnitude, splat(SMALL)), small, large)
}

/// `x · sigmoid(x)`.
#[inline(always)]
pub(super) fn silu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    simd.div_f32s(x, simd.add_f32s(simd.splat_f32s(1.0), exp(simd, simd.neg_f32s(x))))
}

/// `e^x`, with an error of at most 2 ULP. Below -87.3 it is clamped to 1.2e-38, the smallest normal number.
///
/// `x = n · ln 2 + r` with `|r| <= ln 2 / 2`; `e^r` is a polynomial (the coefficients of Cephes' `expf`), and `2^n` is
/// added to the exponent.
#[inline(always)]
pub(super) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    const COEFFICIENTS: [f32; 6] = [
        1.987_569_2e-4,
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ];
    /// 1.5 · 2^23: adding it rounds to an integer, which is then in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts; the first has few enough significant bits that its product with n is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    /// Range without subnormal results and overflow.
    const LIMITS: [f32; 2] = [-87.3, 88.3];
    let splat = |value: f32| simd.splat_f32s(value);
    // With the operands in this order, NaN propagates: x86 returns the second operand if one is NaN.
    let clamped = simd.min_f32s(splat(LIMITS[1]), simd.max_f32s(splat(LIMITS[0]), x));
    let rounded = simd.mul_add_f32s(clamped, splat(std::f32::consts::LOG2_E), splat(ROUND));
    let n = simd.sub_f32s(rounded, splat(ROUND));
    let r = simd.mul_add_f32s(n, splat(-LN_2[0]), clamped);
    let r = simd.mul_add_f32s(n, splat(-LN_2[1]), r);
    let mut sum = splat(COEFFICIENTS[0]);
    for &coefficient in &COEFFICIENTS[1..] {
        sum = simd.mul_add_f32s(sum, r, splat(coefficient));
    }
    let sum = simd.mul_add_f32s(sum, simd.mul_f32s(r, r), simd.add_f32s(r, splat(1.0)));
    let exponent = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(rounded), simd.splat_u32s(23));
    simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(sum), exponent))
}

#[cfg(test)]
mod tests {
    use pulp::{Arch, WithSimd};

    use super::*;

    struct Exp<'a>(&'a mut [f32]);

    impl WithSimd for Exp<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for vector in S::as_mut_simd_f32s(self.0).0 {
                *vector = exp(simd, *vector);
            }
        }
    }

    #[test]
    fn exp_matches_f64() {
        let inputs: Vec<f32> = (-8700..8800).map(|i| i as f32 / 100.0).chain(vec![0.0; 64]).collect();
        let mut outputs = inputs.clone();
        Arch::new().dispatch(Exp(&mut outputs));
        // Only whole vectors are computed; the padding at the end is not checked.
        for (&x, y) in inputs.iter().zip(outputs).take(inputs.len() - 64) {
            let expected = f64::from(x).exp();
            let error = (f64::from(y) - expected).abs() / expected;
            assert!(error < 2.5e-7, "e^{x} is {expected}, not {y}");
        }
    }

    struct Gates<'a>(&'a mut [f32], &'a mut [f32]);

    impl WithSimd for Gates<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for vector in S::as_mut_simd_f32s(self.0).0 {
                *vector = sigmoid(simd, *vector);
            }
            for vector in S::as_mut_simd_f32s(self.1).0 {
                *vector = tanh(simd, *vector);
            }
        }
    }

    #[test]
    fn sigmoid_and_tanh_match_f64() {
        // Also very small numbers, and numbers on both sides of zero and of the limit of the polynomial.
        let sizes = (0..2600).map(|i| 1e-20 * 1.02_f32.powi(i)).take_while(|&x| x < 100.0);
        let mut inputs: Vec<f32> = sizes
            .flat_map(|x| [x, -x])
            .chain([0.0, f32::INFINITY, -f32::INFINITY])
            .collect();
        inputs.extend((-1000..1000).map(|i| 0.625 + i as f32 * 6e-8));
        inputs.resize(inputs.len().next_multiple_of(64), 0.0);
        let (mut sigmoids, mut tangents) = (inputs.clone(), inputs.clone());
        Arch::new().dispatch(Gates(&mut sigmoids, &mut tangents));
        for ((&x, sigmoid), tangent) in inputs.iter().zip(sigmoids).zip(tangents) {
            let wide = f64::from(x);
            for (name, expected, got) in [
                ("sigmoid", 1.0 / (1.0 + (-wide).exp()), sigmoid),
                ("tanh", wide.tanh(), tangent),
            ] {
                let error = (f64::from(got) - expected).abs();
                assert!(
                    error <= 3e-7 * expected.abs() + 2e-38,
                    "{name}({x}) is {expected}, not {got}"
                );
            }
        }
        let mut values = [vec![f32::NAN; 64], vec![f32::NAN; 64]];
        let [a, b] = &mut values;
        Arch::new().dispatch(Gates(a, b));
        assert!(values.iter().flatten().all(|value| value.is_nan()));
    }

    #[test]
    fn masked_scores_have_no_weight() {
        let mut outputs = [-1e30_f32, -88.0, f32::NEG_INFINITY, -200.0].repeat(16);
        Arch::new().dispatch(Exp(&mut outputs));
        assert!(outputs.iter().all(|&value| value < 2e-38), "{outputs:?}");
        let mut outputs = vec![f32::NAN; 64];
        Arch::new().dispatch(Exp(&mut outputs));
        assert!(outputs.iter().all(|value| value.is_nan()), "{outputs:?}");
    }
}

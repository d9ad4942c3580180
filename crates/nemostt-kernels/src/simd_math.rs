// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sums over vectors of any length, and functions of their values.

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
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    let pairs = [simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3])];
    simd.reduce_sum_f32s(simd.add_f32s(pairs[0], pairs[1])) + rest
}

/// `Σ f(x)`, given as a function of vectors and as one of numbers.
#[inline(always)]
pub(super) fn map_sum<S: Simd>(simd: S, x: &[f32], f: impl Fn(S::f32s) -> S::f32s, single: impl Fn(f32) -> f32) -> f32 {
    let (vectors, rest) = S::as_simd_f32s(x);
    // Four sums, as in `dot`.
    let mut sums = [simd.splat_f32s(0.0); 4];
    let (turns, left) = vectors.as_chunks::<4>();
    for turn in turns {
        for lane in 0..4 {
            sums[lane] = simd.add_f32s(sums[lane], f(turn[lane]));
        }
    }
    for &vector in left {
        sums[0] = simd.add_f32s(sums[0], f(vector));
    }
    let pairs = [simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3])];
    simd.reduce_sum_f32s(simd.add_f32s(pairs[0], pairs[1])) + rest.iter().map(|&x| single(x)).sum::<f32>()
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(super) fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    simd.div_f32s(one, simd.add_f32s(one, exp(simd, simd.neg_f32s(x))))
}

/// The hyperbolic tangent, to within a few units of the last place.
///
/// It is `1 - 2 / (e^2x + 1)`, of which too little is left where x is small: there it is a polynomial (Cephes' `tanhf`).
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
    let number = |value: f32| simd.splat_f32s(value);
    let size = simd.abs_f32s(x);
    let square = simd.mul_f32s(x, x);
    let mut sum = number(COEFFICIENTS[0]);
    for &coefficient in &COEFFICIENTS[1..] {
        sum = simd.mul_add_f32s(sum, square, number(coefficient));
    }
    let small = simd.mul_add_f32s(simd.mul_f32s(sum, square), x, x);
    let grown = exp(simd, simd.add_f32s(size, size));
    let large = simd.sub_f32s(
        number(1.0),
        simd.div_f32s(number(2.0), simd.add_f32s(grown, number(1.0))),
    );
    let large = simd.select_f32s(simd.less_than_f32s(x, number(0.0)), simd.neg_f32s(large), large);
    simd.select_f32s(simd.less_than_f32s(size, number(SMALL)), small, large)
}

/// `x · sigmoid(x)`.
#[inline(always)]
pub(super) fn silu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    simd.div_f32s(x, simd.add_f32s(simd.splat_f32s(1.0), exp(simd, simd.neg_f32s(x))))
}

/// `e^x`, to within 2 units of the last place. Below -87.3 it is 1.2e-38, the smallest number with all digits, and not less.
///
/// `x = n · ln 2 + r` with `|r| <= ln 2 / 2`; `e^r` is a polynomial (the coefficients of Cephes' `expf`), and `2^n` is put
/// into the exponent.
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
    /// 1.5 · 2^23: what is added to it is rounded to a whole number, which its last bits then hold.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts, of which the first has so few digits that products with n are exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    /// Where results become subnormal, and where they overflow.
    const LIMITS: [f32; 2] = [-87.3, 88.3];
    let number = |value: f32| simd.splat_f32s(value);
    // In this order, what is not a number stays so: x86 gives the second where one is not.
    let clamped = simd.min_f32s(number(LIMITS[1]), simd.max_f32s(number(LIMITS[0]), x));
    let rounded = simd.mul_add_f32s(clamped, number(std::f32::consts::LOG2_E), number(ROUND));
    let n = simd.sub_f32s(rounded, number(ROUND));
    let r = simd.mul_add_f32s(n, number(-LN_2[0]), clamped);
    let r = simd.mul_add_f32s(n, number(-LN_2[1]), r);
    let mut sum = number(COEFFICIENTS[0]);
    for &coefficient in &COEFFICIENTS[1..] {
        sum = simd.mul_add_f32s(sum, r, number(coefficient));
    }
    let sum = simd.mul_add_f32s(sum, simd.mul_f32s(r, r), simd.add_f32s(r, number(1.0)));
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
        // What does not fill a vector is left as it was.
        for (&x, y) in inputs.iter().zip(outputs).take(inputs.len() - 64) {
            let exact = f64::from(x).exp();
            let error = (f64::from(y) - exact).abs() / exact;
            assert!(error < 2.5e-7, "e^{x} is {exact}, not {y}");
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
        // Also of very small numbers, on both sides of zero and of where the polynomial ends.
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
            for (name, exact, got) in [
                ("sigmoid", 1.0 / (1.0 + (-wide).exp()), sigmoid),
                ("tanh", wide.tanh(), tangent),
            ] {
                let error = (f64::from(got) - exact).abs();
                assert!(error <= 3e-7 * exact.abs() + 2e-38, "{name}({x}) is {exact}, not {got}");
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

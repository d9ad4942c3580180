// SPDX-License-Identifier: MIT OR Apache-2.0

//! Layer normalization: `(x - mean) / sqrt(variance + epsilon) · scale + bias` for each row, and optionally SiLU, `x ·
//! sigmoid(x)`, applied to the result.
//!
//! Each layer has six of them, over a few rows. ONNX Runtime wakes its threads for each, which takes longer than the
//! computation on one thread.

use std::cell::RefCell;

use pulp::{Arch, Simd, WithSimd};

use super::{
    fused_op::{FusedOp, OutputShape, ProgramError, Prologue, Signature, Split, Task},
    gemm::PackedLhsMut,
    simd_math::{map_sum, silu},
};

/// Columns that are transposed together: few enough that all rows of them stay in the L1 cache.
const BLOCK_COLUMNS: usize = 64;

/// Parameters of a layer normalization.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    /// \[width\].
    pub scale: Vec<f32>,
    /// \[width\].
    pub bias: Vec<f32>,
    /// Added to the variance.
    pub epsilon: f32,
    /// Whether to apply SiLU, `x · sigmoid(x)`, to the result.
    pub silu: bool,
}

impl LayerNorm {
    /// Values per row.
    pub fn width(&self) -> usize {
        self.scale.len()
    }

    /// Whether scale and bias have the same, nonzero length.
    pub fn is_consistent(&self) -> bool {
        self.width() > 0 && self.bias.len() == self.width()
    }

    /// Normalizes rows \[rows, width\].
    ///
    /// # Panics
    /// If the lengths differ or are not a multiple of the width.
    pub fn normalize(&self, input: &[f32], output: &mut [f32]) {
        assert!(input.len() == output.len() && input.len().is_multiple_of(self.width()));
        Arch::new().dispatch(NormalizeRows {
            layer_norm: self,
            input,
            output,
        });
    }

    /// Normalizes the output's columns of rows \[rows, width\] into a packed left-hand side. The first of these columns must
    /// be a multiple of [`VECTOR_BLOCK`](super::fused_op::VECTOR_BLOCK) for the results to be those of all columns together.
    ///
    /// # Panics
    /// If the sizes differ.
    pub fn normalize_packed(&self, input: &[f32], mut output: PackedLhsMut<'_>) {
        thread_local! {
            /// Buffers for the statistics of rows and for a block of columns of all rows.
            static SCRATCH: RefCell<(Vec<RowStats>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
        }
        let (rows, width) = (output.rows(), self.width());
        assert!(output.k() == width && input.len() == rows * width);
        SCRATCH.with_borrow_mut(|(stats, scratch)| {
            stats.resize(rows, RowStats::default());
            Arch::new().dispatch(ComputeStats {
                layer_norm: self,
                input,
                stats,
            });
            let columns = output.columns();
            for first in columns.clone().step_by(BLOCK_COLUMNS) {
                let count = BLOCK_COLUMNS.min(columns.end - first);
                scratch.resize(rows * count, 0.0);
                Arch::new().dispatch(NormalizeColumns {
                    layer_norm: self,
                    input,
                    stats,
                    first,
                    count,
                    output: scratch,
                });
                output.put_all(first, (scratch, count), count);
            }
        });
    }
}

/// Input and output: rows \[rows, width\].
impl FusedOp for LayerNorm {
    fn signature(&self) -> Signature {
        Signature::new([Some(self.width())], [self.width()])
    }

    fn infer(&self, lengths: &[usize]) -> Result<Vec<OutputShape>, ProgramError> {
        let width = self.width();
        let rows = lengths[0] / width;
        Ok(vec![OutputShape::Rows { rows, width }])
    }

    fn split(&self, lengths: &[usize], workers: usize) -> Split {
        let rows = lengths[0] / self.width();
        Split::by_rows(rows, workers)
    }

    fn is_row_wise(&self) -> bool {
        true
    }

    fn run(&self, task: &mut Task<'_>) {
        let (rows, width) = (task.range(), self.width());
        let input = &task.input(0)[rows.start * width..rows.end * width];
        self.normalize(input, task.rows_mut());
    }

    fn is_parallel(&self) -> bool {
        false
    }

    fn as_prologue(&self) -> Option<&dyn Prologue> {
        Some(self)
    }
}

impl Prologue for LayerNorm {
    fn run_packed(&self, input: &[f32], output: PackedLhsMut<'_>) {
        self.normalize_packed(input, output);
    }
}

/// Mean and inverse standard deviation of a row.
#[derive(Debug, Clone, Copy, Default)]
struct RowStats {
    mean: f32,
    inv_std: f32,
}

impl LayerNorm {
    #[inline(always)]
    fn stats<S: Simd>(&self, simd: S, input: &[f32]) -> RowStats {
        let inv_width = 1.0 / self.width() as f32;
        let mean = map_sum(simd, input, |x| x, |x| x) * inv_width;
        let mean_of_lanes = simd.splat_f32s(mean);
        let square = |x: S::f32s| {
            let x = simd.sub_f32s(x, mean_of_lanes);
            simd.mul_f32s(x, x)
        };
        // Of deviations from the mean, not of squares: more accurate if the mean is large.
        let variance = map_sum(simd, input, square, |x| (x - mean) * (x - mean)) * inv_width;
        RowStats {
            mean,
            inv_std: 1.0 / (variance + self.epsilon).sqrt(),
        }
    }

    /// Normalizes columns `first..` of a row, as many as `output` has.
    #[inline(always)]
    fn apply<S: Simd>(&self, simd: S, stats: RowStats, input: &[f32], first: usize, output: &mut [f32]) {
        let RowStats { mean, inv_std } = stats;
        let columns = first..first + output.len();
        let (input, scale) = (&input[columns.clone()], &self.scale[columns.clone()]);
        let bias = &self.bias[columns];
        let ((inputs, input_rest), (scales, scale_rest), (biases, bias_rest)) =
            (S::as_simd_f32s(input), S::as_simd_f32s(scale), S::as_simd_f32s(bias));
        let (outputs, output_rest) = S::as_mut_simd_f32s(output);
        let (means, factors) = (simd.splat_f32s(mean), simd.splat_f32s(inv_std));
        for (((output, &x), &scale), &bias) in outputs.iter_mut().zip(inputs).zip(scales).zip(biases) {
            let x = simd.mul_f32s(simd.sub_f32s(x, means), factors);
            *output = simd.mul_add_f32s(x, scale, bias);
            if self.silu {
                *output = silu(simd, *output);
            }
        }
        let rest = output_rest.iter_mut().zip(input_rest).zip(scale_rest).zip(bias_rest);
        for (((output, &x), &scale), &bias) in rest {
            *output = (x - mean) * inv_std * scale + bias;
            if self.silu {
                *output /= 1.0 + (-*output).exp();
            }
        }
    }
}

/// Normalizes whole rows.
struct NormalizeRows<'a> {
    layer_norm: &'a LayerNorm,
    input: &'a [f32],
    output: &'a mut [f32],
}

impl WithSimd for NormalizeRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = self.layer_norm.width();
        let rows = self.input.chunks_exact(width).zip(self.output.chunks_exact_mut(width));
        for (input, output) in rows {
            let stats = self.layer_norm.stats(simd, input);
            self.layer_norm.apply(simd, stats, input, 0, output);
        }
    }
}

/// Computes the statistics of rows.
struct ComputeStats<'a> {
    layer_norm: &'a LayerNorm,
    input: &'a [f32],
    stats: &'a mut [RowStats],
}

impl WithSimd for ComputeStats<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let rows = self.input.chunks_exact(self.layer_norm.width());
        for (stats, input) in self.stats.iter_mut().zip(rows) {
            *stats = self.layer_norm.stats(simd, input);
        }
    }
}

/// Normalizes columns `first..first + count` of all rows into `output` \[rows, count\].
struct NormalizeColumns<'a> {
    layer_norm: &'a LayerNorm,
    input: &'a [f32],
    stats: &'a [RowStats],
    first: usize,
    count: usize,
    output: &'a mut [f32],
}

impl WithSimd for NormalizeColumns<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let rows = self.input.chunks_exact(self.layer_norm.width()).zip(self.stats);
        for ((input, stats), output) in rows.zip(self.output.chunks_exact_mut(self.count)) {
            self.layer_norm.apply(simd, *stats, input, self.first, output);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{cases, noise};

    fn check(rows: usize, width: usize, mean: f32, gates: bool) {
        let input: Vec<f32> = noise(rows * width, 1).into_iter().map(|value| value + mean).collect();
        let layer_norm = LayerNorm {
            scale: noise(width, 2),
            bias: noise(width, 3),
            epsilon: 1e-5,
            silu: gates,
        };
        assert!(layer_norm.is_consistent());
        let mut output = vec![f32::NAN; input.len()];
        layer_norm.normalize(&input, &mut output);
        for (input, output) in input.chunks(width).zip(output.chunks(width)) {
            let input: Vec<f64> = input.iter().map(|&value| value.into()).collect();
            let mean = input.iter().sum::<f64>() / width as f64;
            let variance = input.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / width as f64;
            for (column, (value, &got)) in input.iter().zip(output).enumerate() {
                let normal = (value - mean) / (variance + 1e-5).sqrt();
                let plain = normal * f64::from(layer_norm.scale[column]) + f64::from(layer_norm.bias[column]);
                let expected = if gates { plain / (1.0 + (-plain).exp()) } else { plain };
                assert!(
                    (f64::from(got) - expected).abs() < 3e-6,
                    "{column}: {got} for {expected}"
                );
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "sizes of real layers take Miri minutes")]
    fn sizes_of_real_layers() {
        for (rows, width) in [(1, 512), (2, 512), (14, 512), (14, 176), (3, 1024)] {
            check(rows, width, 0.0, false);
            check(rows, width, 3.0, true);
        }
    }

    #[test]
    fn nan_stays_in_its_row() {
        let mut input = noise(60, 1);
        input[25] = f32::NAN;
        let layer_norm = LayerNorm {
            scale: vec![1.0; 20],
            bias: vec![0.0; 20],
            epsilon: 1e-5,
            silu: true,
        };
        let mut output = vec![0.0; 60];
        layer_norm.normalize(&input, &mut output);
        for (row, values) in output.chunks(20).enumerate() {
            assert!(values.iter().all(|value| value.is_nan() == (row == 1)), "{values:?}");
        }
    }

    proptest! {
        #![proptest_config(cases(48))]
        #[test]
        fn any_size(rows in 0_usize..4, width in 2_usize..70, gates: bool) {
            check(rows, width, 0.5, gates);
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The strided convolutions of the subsampling at the start of the encoder, over time and frequency. Each output
//! channel depends on one input channel:
//!
//! ```text
//! output(t, f, c) = bias(c) + Σ_ij weight(c, i, j) · input(t · stride + i - pad, f · stride + j - pad, c or 0)
//! ```
//!
//! The layout is channels-last, as that of the GEMMs before and after. Values outside the input and masked frames are
//! skipped instead of multiplied by zero.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::fused_op::{FusedOp, OutputShape, ProgramError, Signature, Split, Task};

/// Vectors that are accumulated at a time, to hide the latency of FMA.
const VECTORS: usize = 4;

/// Larger kernels, strides and pads are invalid; with smaller ones no size overflows.
const MAX_EXTENT: usize = 1 << 16;

/// Kernel, strides and padding, each for the axes \[frames, frequencies\].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Kernel size.
    pub kernel: [usize; 2],
    /// Strides.
    pub strides: [usize; 2],
    /// Padding before and after.
    pub pads: [[usize; 2]; 2],
}

impl ConvGeometry {
    /// Output size \[frames, frequencies\] for an input size; `None` if the input is too small.
    pub fn output_size(&self, input: [usize; 2]) -> Option<[usize; 2]> {
        let along = |axis: usize| {
            let all = input[axis].checked_add(self.pads[0][axis] + self.pads[1][axis])?;
            Some(all.checked_sub(self.kernel[axis])? / self.strides[axis] + 1)
        };
        Some([along(0)?, along(1)?])
    }

    fn is_valid(&self) -> bool {
        let sizes = [self.kernel, self.strides];
        sizes.as_flattened().iter().all(|size| (1..=MAX_EXTENT).contains(size))
            && self.pads.as_flattened().iter().all(|&pad| pad <= MAX_EXTENT)
    }

    /// The taps of output `index` along `axis` that are within `count` inputs, and the input index of the first of
    /// them.
    fn taps(&self, axis: usize, index: usize, count: usize) -> (Range<usize>, usize) {
        let (start, pad) = (index * self.strides[axis], self.pads[0][axis]);
        let first = pad.saturating_sub(start);
        let end = (count + pad).saturating_sub(start).min(self.kernel[axis]);
        (first..end.max(first), (start + first - pad).min(count))
    }
}

/// Parameters of a strided convolution with an optional ReLU.
#[derive(Debug, Clone)]
pub struct StridedConv {
    geometry: ConvGeometry,
    /// \[taps, channels\].
    weights: Vec<f32>,
    bias: Vec<f32>,
    /// Whether all output channels depend on the first input channel; otherwise each depends on its own.
    shared_input: bool,
    /// Whether to apply ReLU to the result.
    relu: bool,
}

/// Input and output sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvDims {
    /// \[frames, frequencies\] of the input.
    pub input: [usize; 2],
    /// \[frames, frequencies\] of the output.
    pub output: [usize; 2],
}

impl StridedConv {
    /// A convolution with weights \[channels, taps\]. Returns `None` if sizes do not match.
    pub fn new(
        geometry: ConvGeometry,
        weights: &[f32],
        bias: Vec<f32>,
        shared_input: bool,
        relu: bool,
    ) -> Option<Self> {
        let (taps, channels) = (geometry.kernel[0].checked_mul(geometry.kernel[1])?, bias.len());
        if !geometry.is_valid() || channels == 0 || taps.checked_mul(channels) != Some(weights.len()) {
            return None;
        }
        let transposed = (0..weights.len()).map(|i| weights[(i % channels) * taps + i / channels]);
        Some(Self {
            geometry,
            weights: transposed.collect(),
            bias,
            shared_input,
            relu,
        })
    }

    /// Output channels.
    pub fn channels(&self) -> usize {
        self.bias.len()
    }

    /// Sizes for an input of `values` values, \[frames, frequencies, channels\], with a mask of `frames` values.
    /// Returns `None` if they do not match.
    pub fn sizes(&self, values: usize, frames: usize) -> Option<ConvDims> {
        let channels = if self.shared_input { 1 } else { self.channels() };
        let frame = frames.checked_mul(channels)?;
        let is_consistent = frame > 0 && values > 0 && values.is_multiple_of(frame);
        let input = [frames, values.checked_div(frame)?];
        is_consistent.then_some(ConvDims {
            input,
            output: self.geometry.output_size(input)?,
        })
    }

    /// Computes output frame `frame`, \[frequencies, channels\].
    ///
    /// # Panics
    /// If the input has no valid [sizes](Self::sizes), the frame is out of range, or `row` has the wrong length.
    pub fn convolve(&self, frame: usize, (input, mask): (&[f32], &[f32]), row: &mut [f32]) {
        let Some(sizes) = self.sizes(input.len(), mask.len()) else {
            panic!("the input size does not match the convolution's weights");
        };
        assert!(frame < sizes.output[0] && row.len() == sizes.output[1] * self.channels());
        let output_frame = ComputeFrame {
            convolution: self,
            input,
            mask,
            sizes,
            frame,
            row,
        };
        Arch::new().dispatch(output_frame);
    }
}

/// Inputs: frames \[frames, frequencies, channels\], mask \[frames\]. Output: rows \[frames · frequencies, channels\].
impl FusedOp for StridedConv {
    fn signature(&self) -> Signature {
        Signature::new([None; 2], [self.channels()])
    }

    fn infer(&self, lengths: &[usize]) -> Result<Vec<OutputShape>, ProgramError> {
        let sizes = self.sizes(lengths[0], lengths[1]).ok_or(ProgramError::ShapeMismatch)?;
        let [frames, bins] = sizes.output;
        Ok(vec![OutputShape::Rows {
            rows: frames.checked_mul(bins).ok_or(ProgramError::ShapeMismatch)?,
            width: self.channels(),
        }])
    }

    fn split(&self, lengths: &[usize], _: usize) -> Split {
        let frames = self.sizes(lengths[0], lengths[1]).map_or(0, |sizes| sizes.output[0]);
        Split::Rows {
            rows: frames,
            tasks: frames,
        }
    }

    fn run(&self, task: &mut Task<'_>) {
        let (frame, inputs) = (task.index(), (task.input(0), task.input(1)));
        self.convolve(frame, inputs, task.rows_mut());
    }
}

/// Computes one output frame.
struct ComputeFrame<'a> {
    convolution: &'a StridedConv,
    input: &'a [f32],
    mask: &'a [f32],
    sizes: ConvDims,
    frame: usize,
    row: &'a mut [f32],
}

impl WithSimd for ComputeFrame<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.convolution.shared_input {
            true => self.compute::<S, true>(simd),
            false => self.compute::<S, false>(simd),
        }
    }
}

impl ComputeFrame<'_> {
    #[inline(always)]
    fn compute<S: Simd, const SHARED: bool>(self, simd: S) {
        let (convolution, [frames, bins]) = (self.convolution, self.sizes.input);
        let (geometry, channels) = (convolution.geometry, convolution.channels());
        let (over_time, start) = geometry.taps(0, self.frame, frames);
        for (bin, values) in self.row.chunks_exact_mut(channels).enumerate() {
            let (over_bins, first) = geometry.taps(1, bin, bins);
            let field = ReceptiveField::<SHARED> {
                convolution,
                input: self.input,
                mask: &self.mask[start..][..over_time.len()],
                origin: start * bins + first,
                bins,
                over_time: over_time.clone(),
                over_bins,
            };
            let (vectors, rest) = S::as_mut_simd_f32s(values);
            let (chunks, rest_vectors) = vectors.as_chunks_mut::<VECTORS>();
            let mut channel = 0;
            for chunk in chunks {
                *chunk = field.apply(simd, channel);
                channel += VECTORS * S::F32_LANES;
            }
            for vector in rest_vectors {
                [*vector] = field.apply(simd, channel);
                channel += S::F32_LANES;
            }
            for value in rest {
                *value = field.apply_scalar(channel);
                channel += 1;
            }
        }
    }
}

/// The input under the kernel at one output frame and frequency.
struct ReceptiveField<'a, const SHARED: bool> {
    convolution: &'a StridedConv,
    input: &'a [f32],
    /// Mask of the frames under the taps.
    mask: &'a [f32],
    /// Offset of the input at the first tap, in units of frequencies.
    origin: usize,
    /// Frequencies per input frame.
    bins: usize,
    over_time: Range<usize>,
    over_bins: Range<usize>,
}

impl<const SHARED: bool> ReceptiveField<'_, SHARED> {
    /// Results for the channels of `COUNT` vectors, from `channel` on.
    #[inline(always)]
    fn apply<S: Simd, const COUNT: usize>(&self, simd: S, channel: usize) -> [S::f32s; COUNT] {
        let (convolution, channels) = (self.convolution, self.convolution.channels());
        let load = |values: &[f32], from: usize| -> [S::f32s; COUNT] {
            let values = &values[from..][..COUNT * S::F32_LANES];
            S::as_simd_f32s(values).0.as_chunks::<COUNT>().0[0]
        };
        let mut acc = load(&convolution.bias, channel);
        for (row, i) in self.over_time.clone().enumerate() {
            if self.mask[row] == 0.0 {
                continue;
            }
            let (tap, input_row) = (i * convolution.geometry.kernel[1], self.origin + row * self.bins);
            for (column, j) in self.over_bins.clone().enumerate() {
                let weights = load(&convolution.weights, (tap + j) * channels + channel);
                let values = match SHARED {
                    true => [simd.splat_f32s(self.input[input_row + column]); COUNT],
                    false => load(self.input, (input_row + column) * channels + channel),
                };
                for lane in 0..COUNT {
                    acc[lane] = simd.mul_add_f32s(weights[lane], values[lane], acc[lane]);
                }
            }
        }
        if convolution.relu {
            let zero = simd.splat_f32s(0.0);
            for value in &mut acc {
                // With the operands in this order, NaN propagates.
                *value = simd.max_f32s(zero, *value);
            }
        }
        acc
    }

    /// The result for one channel.
    #[inline(always)]
    fn apply_scalar(&self, channel: usize) -> f32 {
        let (convolution, channels) = (self.convolution, self.convolution.channels());
        let mut acc = convolution.bias[channel];
        for (row, i) in self.over_time.clone().enumerate() {
            if self.mask[row] == 0.0 {
                continue;
            }
            let (tap, input_row) = (i * convolution.geometry.kernel[1], self.origin + row * self.bins);
            for (column, j) in self.over_bins.clone().enumerate() {
                let value = match SHARED {
                    true => self.input[input_row + column],
                    false => self.input[(input_row + column) * channels + channel],
                };
                acc = convolution.weights[(tap + j) * channels + channel].mul_add(value, acc);
            }
        }
        match convolution.relu && acc < 0.0 {
            true => 0.0,
            false => acc,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{cases, most, noise};

    const CAUSAL: ConvGeometry = ConvGeometry {
        kernel: [3, 3],
        strides: [2, 2],
        pads: [[2, 2], [1, 1]],
    };

    fn check(geometry: ConvGeometry, channels: usize, input_sizes: [usize; 2], (shared_input, relu): (bool, bool)) {
        let taps = geometry.kernel[0] * geometry.kernel[1];
        let (weights, bias) = (noise(channels * taps, 1), noise(channels, 2));
        let convolution = StridedConv::new(geometry, &weights, bias.clone(), shared_input, relu).unwrap();
        let ([frames, bins], in_channels) = (input_sizes, if shared_input { 1 } else { channels });
        let input = noise(frames * bins * in_channels, 3);
        // Masks some frames in the middle, and the last one.
        let mask: Vec<f32> = (0..frames).map(|t| f32::from(t % 5 != 3 && t + 1 != frames)).collect();
        let Some([out_frames, out_bins]) = geometry.output_size(input_sizes) else {
            assert_eq!(convolution.sizes(input.len(), mask.len()), None);
            return;
        };
        let output = [out_frames, out_bins];
        let sizes = ConvDims {
            input: input_sizes,
            output,
        };
        assert_eq!(convolution.sizes(input.len(), mask.len()), Some(sizes));
        let mut values = vec![f32::NAN; out_frames * out_bins * channels];
        for (frame, row) in values.chunks_exact_mut(out_bins * channels).enumerate().rev() {
            convolution.convolve(frame, (&input, &mask), row);
        }
        // Float64 reference, indexed as in the padded input.
        let value = |t: usize, f: usize, c: usize| {
            let (Some(t), Some(f)) = (t.checked_sub(geometry.pads[0][0]), f.checked_sub(geometry.pads[0][1])) else {
                return 0.0;
            };
            let is_inside = t < frames && f < bins && mask[t] != 0.0;
            let index = if shared_input { 0 } else { c };
            if is_inside {
                f64::from(input[(t * bins + f) * in_channels + index])
            } else {
                0.0
            }
        };
        for (index, &found) in values.iter().enumerate() {
            let (t, f, c) = (
                index / channels / out_bins,
                index / channels % out_bins,
                index % channels,
            );
            let tap = |tap: usize| {
                let (i, j) = (tap / geometry.kernel[1], tap % geometry.kernel[1]);
                let input = value(t * geometry.strides[0] + i, f * geometry.strides[1] + j, c);
                f64::from(weights[c * taps + tap]) * input
            };
            let sum = f64::from(bias[c]) + (0..taps).map(tap).sum::<f64>();
            let expected = if relu { sum.max(0.0) } else { sum };
            assert!(
                (f64::from(found) - expected).abs() < 4e-6,
                "{t} {f} {c}: {found}, {expected}"
            );
        }
        assert!(convolution.sizes(input.len(), 0).is_none() && convolution.sizes(0, mask.len()).is_none());
    }

    #[test]
    #[cfg_attr(miri, ignore = "sizes of real layers take Miri minutes")]
    fn sizes_of_real_models() {
        check(CAUSAL, 256, [25, 80], (true, true));
        check(CAUSAL, 256, [13, 41], (false, false));
        check(CAUSAL, 96, [7, 65], (false, true));
    }

    #[test]
    fn mismatched_sizes_are_rejected() {
        let new = |geometry: ConvGeometry, weights: usize, bias: usize| {
            StridedConv::new(geometry, &vec![0.0; weights], vec![0.0; bias], false, false)
        };
        assert!(new(CAUSAL, 18, 2).is_some());
        assert!(new(CAUSAL, 17, 2).is_none());
        assert!(new(CAUSAL, 0, 0).is_none());
        let strides = [0, 2];
        assert!(new(ConvGeometry { strides, ..CAUSAL }, 18, 2).is_none());
        let pads = [[usize::MAX; 2]; 2];
        assert!(new(ConvGeometry { pads, ..CAUSAL }, 18, 2).is_none());
        let convolution = new(CAUSAL, 18, 2).unwrap();
        assert!(convolution.sizes(8, 2).is_some());
        assert!(convolution.sizes(7, 2).is_none());
    }

    proptest! {
        #![proptest_config(cases(96))]
        #[test]
        fn any_size(
            kernel in [1_usize..5, 1_usize..5],
            strides in [1_usize..4, 1_usize..4],
            before in [0_usize..6, 0_usize..6],
            after in [0_usize..6, 0_usize..6],
            channels in 1_usize..most(150),
            input in [1_usize..9, 1_usize..9],
            kind in any::<(bool, bool)>(),
        ) {
            check(ConvGeometry { kernel, strides, pads: [before, after] }, channels, input, kind);
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The strided convolutions of the subsampling in front of the layers, over time and frequency, each of whose outputs has
//! one channel to look at:
//!
//! ```text
//! output(t, f, c) = bias(c) + Σ_ij weight(c, i, j) · input(t · stride + i - pad, f · stride + j - pad, c or 0)
//! ```
//!
//! Channels lie side by side, as products give and take them. What lies beside the input counts as zeros, and so do frames
//! that are masked: no mask is multiplied with anything.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

/// Vectors whose sums are in registers at a time: a processor begins the next sum before the last one is done.
const VECTORS: usize = 4;

/// Kernels, strides and pads beyond that are mistakes; below, no size overflows.
const MAX_EXTENT: usize = 1 << 16;

/// How a convolution goes over its input; frames first, then frequencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Size of the kernel.
    pub kernel: [usize; 2],
    /// Steps between two outputs.
    pub strides: [usize; 2],
    /// Zeros before the first frame and frequency, and behind the last ones.
    pub pads: [[usize; 2]; 2],
}

impl ConvGeometry {
    /// Frames and frequencies of the output for those of an input; `None`: it has none.
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

    /// The taps of output `index` along `axis` that lie on one of `count` inputs, and the input of the first of them.
    fn taps(&self, axis: usize, index: usize, count: usize) -> (Range<usize>, usize) {
        let (start, pad) = (index * self.strides[axis], self.pads[0][axis]);
        let first = pad.saturating_sub(start);
        let end = (count + pad).saturating_sub(start).min(self.kernel[axis]);
        (first..end.max(first), (start + first - pad).min(count))
    }
}

/// What does not change from step to step.
#[derive(Debug, Clone)]
pub struct StridedConv {
    geometry: ConvGeometry,
    /// \[taps, channels\].
    weights: Vec<f32>,
    bias: Vec<f32>,
    /// Whether all channels look at the one that the input has, else each at its own.
    shared_input: bool,
    /// Whether what is below zero becomes zero.
    relu: bool,
}

/// Frames and frequencies of an input and of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvDims {
    /// \[frames, frequencies\] of the input.
    pub input: [usize; 2],
    /// \[frames, frequencies\] of the output.
    pub output: [usize; 2],
}

impl StridedConv {
    /// A convolution with weights \[channels, taps\]. `None`: sizes do not fit each other.
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
        let turned = (0..weights.len()).map(|i| weights[(i % channels) * taps + i / channels]);
        Some(Self {
            geometry,
            weights: turned.collect(),
            bias,
            shared_input,
            relu,
        })
    }

    /// Output channels.
    pub fn channels(&self) -> usize {
        self.bias.len()
    }

    /// Sizes of an input of `values` values, \[frames, frequencies, channels\], with a mask of `frames`. `None`: they do not
    /// fit each other.
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

    /// Computes frame `frame` of the output: \[frequencies, channels\].
    ///
    /// # Panics
    /// If the input has no [sizes](Self::sizes), or there is no such frame or other room than it takes.
    pub fn convolve(&self, frame: usize, (input, mask): (&[f32], &[f32]), row: &mut [f32]) {
        let Some(sizes) = self.sizes(input.len(), mask.len()) else {
            panic!("the input of a convolution does not fit its weights");
        };
        assert!(frame < sizes.output[0] && row.len() == sizes.output[1] * self.channels());
        let work = OutputFrame {
            convolution: self,
            input,
            mask,
            sizes,
            frame,
            row,
        };
        Arch::new().dispatch(work);
    }
}

/// One frame of the output.
struct OutputFrame<'a> {
    convolution: &'a StridedConv,
    input: &'a [f32],
    mask: &'a [f32],
    sizes: ConvDims,
    frame: usize,
    row: &'a mut [f32],
}

impl WithSimd for OutputFrame<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.convolution.shared_input {
            true => self.compute::<S, true>(simd),
            false => self.compute::<S, false>(simd),
        }
    }
}

impl OutputFrame<'_> {
    #[inline(always)]
    fn compute<S: Simd, const SHARED: bool>(self, simd: S) {
        let (convolution, [frames, bins]) = (self.convolution, self.sizes.input);
        let (geometry, channels) = (convolution.geometry, convolution.channels());
        let (over_time, start) = geometry.taps(0, self.frame, frames);
        for (bin, values) in self.row.chunks_exact_mut(channels).enumerate() {
            let (over_bins, first) = geometry.taps(1, bin, bins);
            let place = ReceptiveField::<SHARED> {
                convolution,
                input: self.input,
                mask: &self.mask[start..][..over_time.len()],
                origin: start * bins + first,
                bins,
                over_time: over_time.clone(),
                over_bins,
            };
            let (vectors, rest) = S::as_mut_simd_f32s(values);
            let (chunks, single) = vectors.as_chunks_mut::<VECTORS>();
            let mut channel = 0;
            for chunk in chunks {
                *chunk = place.sums(simd, channel);
                channel += VECTORS * S::F32_LANES;
            }
            for vector in single {
                [*vector] = place.sums(simd, channel);
                channel += S::F32_LANES;
            }
            for value in rest {
                *value = place.sum(channel);
                channel += 1;
            }
        }
    }
}

/// What one frame and frequency of the output is made of.
struct ReceptiveField<'a, const SHARED: bool> {
    convolution: &'a StridedConv,
    input: &'a [f32],
    /// Of the frames under the taps.
    mask: &'a [f32],
    /// Frame and frequency under the first tap, as one number.
    origin: usize,
    /// Frequencies of a frame of the input.
    bins: usize,
    over_time: Range<usize>,
    over_bins: Range<usize>,
}

impl<const SHARED: bool> ReceptiveField<'_, SHARED> {
    /// Those of as many channels as `COUNT` vectors hold, from `channel` on.
    #[inline(always)]
    fn sums<S: Simd, const COUNT: usize>(&self, simd: S, channel: usize) -> [S::f32s; COUNT] {
        let (convolution, channels) = (self.convolution, self.convolution.channels());
        let load = |values: &[f32], from: usize| -> [S::f32s; COUNT] {
            let values = &values[from..][..COUNT * S::F32_LANES];
            S::as_simd_f32s(values).0.as_chunks::<COUNT>().0[0]
        };
        let mut sums = load(&convolution.bias, channel);
        for (row, i) in self.over_time.clone().enumerate() {
            if self.mask[row] == 0.0 {
                continue;
            }
            let (tap, place) = (i * convolution.geometry.kernel[1], self.origin + row * self.bins);
            for (column, j) in self.over_bins.clone().enumerate() {
                let weights = load(&convolution.weights, (tap + j) * channels + channel);
                let values = match SHARED {
                    true => [simd.splat_f32s(self.input[place + column]); COUNT],
                    false => load(self.input, (place + column) * channels + channel),
                };
                for lane in 0..COUNT {
                    sums[lane] = simd.mul_add_f32s(weights[lane], values[lane], sums[lane]);
                }
            }
        }
        if convolution.relu {
            let zero = simd.splat_f32s(0.0);
            for sum in &mut sums {
                // In this order, what is not a number stays so.
                *sum = simd.max_f32s(zero, *sum);
            }
        }
        sums
    }

    /// That of one channel.
    #[inline(always)]
    fn sum(&self, channel: usize) -> f32 {
        let (convolution, channels) = (self.convolution, self.convolution.channels());
        let mut sum = convolution.bias[channel];
        for (row, i) in self.over_time.clone().enumerate() {
            if self.mask[row] == 0.0 {
                continue;
            }
            let (tap, place) = (i * convolution.geometry.kernel[1], self.origin + row * self.bins);
            for (column, j) in self.over_bins.clone().enumerate() {
                let value = match SHARED {
                    true => self.input[place + column],
                    false => self.input[(place + column) * channels + channel],
                };
                sum = convolution.weights[(tap + j) * channels + channel].mul_add(value, sum);
            }
        }
        match convolution.relu && sum < 0.0 {
            true => 0.0,
            false => sum,
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
        let ([frames, bins], of_input) = (input_sizes, if shared_input { 1 } else { channels });
        let input = noise(frames * bins * of_input, 3);
        // Some in the middle and the last one.
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
        // What lies at a place that is counted with the padding, in double precision.
        let value = |t: usize, f: usize, c: usize| {
            let (Some(t), Some(f)) = (t.checked_sub(geometry.pads[0][0]), f.checked_sub(geometry.pads[0][1])) else {
                return 0.0;
            };
            let is_supported = t < frames && f < bins && mask[t] != 0.0;
            let index = if shared_input { 0 } else { c };
            if is_supported {
                f64::from(input[(t * bins + f) * of_input + index])
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

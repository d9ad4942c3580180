// SPDX-License-Identifier: MIT OR Apache-2.0

//! The middle of a Conformer's convolution module: gated linear units, then a causal depthwise convolution over time:
//!
//! ```text
//! gated(t, c)  = input(t, c) · sigmoid(input(t, channels + c))
//! output(t, c) = bias(c) + Σ_k weight(k, c) · frame(t + k, c)
//! ```
//!
//! where the frames are the cached ones and then the gated ones; the last of them are the next cache, which lies frame by
//! frame: NeMo's, channel by channel, would have to be turned around twice in each step. ONNX Runtime does it
//! in 12 operations, half of which turn time and channels around.

use std::{cell::RefCell, ops::Range};

use pulp::{Arch, Simd, WithSimd};

use super::{gemm::ColumnsMut, simd_math::exp};

/// Channels that are one piece of work.
const TASK_CHANNELS: usize = 128;

/// What does not change from step to step.
#[derive(Debug, Clone)]
pub struct GluDepthwiseConv {
    /// \[kernel, channels\].
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl GluDepthwiseConv {
    /// A convolution with weights \[channels, kernel\]. `None`: sizes do not fit each other.
    pub fn new(weights: &[f32], bias: Vec<f32>) -> Option<Self> {
        let channels = bias.len();
        let kernel = weights.len().checked_div(channels)?;
        if kernel < 2 || kernel * channels != weights.len() {
            return None;
        }
        let turned = (0..weights.len()).map(|i| weights[(i % channels) * kernel + i / channels]);
        Some(Self {
            weights: turned.collect(),
            bias,
        })
    }

    /// Output channels: half as many as the input has.
    pub fn channels(&self) -> usize {
        self.bias.len()
    }

    /// Cached frames.
    pub fn left_context(&self) -> usize {
        self.weights.len() / self.channels() - 1
    }

    /// Whether input \[frames, 2 · channels\] and cache \[left, channels\] are of the right size.
    pub fn accepts(&self, input: &[f32], cache: &[f32]) -> bool {
        self.takes_lengths(input.len(), cache.len())
    }

    /// As [`accepts`](Self::accepts).
    pub(super) fn takes_lengths(&self, input: usize, cache: usize) -> bool {
        input.is_multiple_of(2 * self.channels()) && cache == self.channels() * self.left_context()
    }

    /// Pieces into which the work can be cut.
    pub fn task_count(&self) -> usize {
        self.channels().div_ceil(TASK_CHANNELS)
    }

    /// The columns of both outputs that piece `task` writes: no two pieces have one in common.
    ///
    /// # Panics
    /// If there is no such piece.
    pub fn columns_of(&self, task: usize) -> Range<usize> {
        assert!(task < self.task_count());
        task * TASK_CHANNELS..self.channels().min((task + 1) * TASK_CHANNELS)
    }

    /// Does piece `task`. All pieces together write all of `output`, \[frames, channels\], and of `next`, \[left, channels\].
    ///
    /// # Panics
    /// If the input is not [taken](Self::accepts), or outputs have not the [columns](Self::columns_of) of the piece.
    pub fn convolve(
        &self,
        task: usize,
        (input, cache): (&[f32], &[f32]),
        (mut output, mut next): (ColumnsMut<'_>, ColumnsMut<'_>),
    ) {
        thread_local! {
            /// Room for one piece, kept for the next one.
            static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
        }
        assert!(self.accepts(input, cache));
        let (channels, frames) = (self.channels(), input.len() / (2 * self.channels()));
        let columns = self.columns_of(task);
        let (first, count) = (columns.start, columns.len());
        SCRATCH.with_borrow_mut(|scratch| {
            let left_context = self.left_context();
            scratch.resize((left_context + frames) * count, 0.0);
            let (old, new) = scratch.split_at_mut(left_context * count);
            for (old, cached) in old.chunks_exact_mut(count).zip(cache.chunks_exact(channels)) {
                old.copy_from_slice(&cached[first..][..count]);
            }
            Arch::new().dispatch(Glu {
                input,
                width: channels,
                first,
                count,
                gated: new,
            });
            for frame in 0..frames {
                let mut sums = [0.0; TASK_CHANNELS];
                sums[..count].copy_from_slice(&self.bias[first..][..count]);
                Arch::new().dispatch(Taps {
                    weights: &self.weights[first..],
                    stride: channels,
                    frames: &scratch[frame * count..][..(left_context + 1) * count],
                    sums: &mut sums[..count],
                });
                output.put(frame, first, &sums[..count]);
            }
            for (row, values) in scratch.chunks_exact(count).skip(frames).enumerate() {
                next.put(row, first, values);
            }
        });
    }
}

/// Gated linear units of `count` channels from `first` on.
struct Glu<'a> {
    input: &'a [f32],
    width: usize,
    first: usize,
    count: usize,
    gated: &'a mut [f32],
}

impl WithSimd for Glu<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let one = simd.splat_f32s(1.0);
        let rows = self.input.chunks_exact(2 * self.width);
        for (gated, row) in self.gated.chunks_exact_mut(self.count).zip(rows) {
            let values = &row[self.first..][..self.count];
            let gates = &row[self.width + self.first..][..self.count];
            let (gated, gated_rest) = S::as_mut_simd_f32s(gated);
            let ((values, values_rest), (gates, gates_rest)) = (S::as_simd_f32s(values), S::as_simd_f32s(gates));
            for ((gated, &value), &gate) in gated.iter_mut().zip(values).zip(gates) {
                let power = exp(simd, simd.neg_f32s(gate));
                *gated = simd.div_f32s(value, simd.add_f32s(one, power));
            }
            for ((gated, value), gate) in gated_rest.iter_mut().zip(values_rest).zip(gates_rest) {
                *gated = value / (1.0 + (-gate).exp());
            }
        }
    }
}

/// One frame of output: all taps of each channel.
struct Taps<'a> {
    /// From the first channel of the first tap on; `stride` from tap to tap.
    weights: &'a [f32],
    stride: usize,
    /// One frame for each tap.
    frames: &'a [f32],
    sums: &'a mut [f32],
}

impl WithSimd for Taps<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let count = self.sums.len();
        for (tap, frame) in self.frames.chunks_exact(count).enumerate() {
            let weights = &self.weights[tap * self.stride..][..count];
            let ((weights, weights_rest), (frame, frame_rest)) = (S::as_simd_f32s(weights), S::as_simd_f32s(frame));
            let (sums, sums_rest) = S::as_mut_simd_f32s(&mut *self.sums);
            for ((sum, &weight), &value) in sums.iter_mut().zip(weights).zip(frame) {
                *sum = simd.mul_add_f32s(weight, value, *sum);
            }
            for ((sum, &weight), &value) in sums_rest.iter_mut().zip(weights_rest).zip(frame_rest) {
                *sum = weight.mul_add(value, *sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{cases, gemm::Output, most, noise};

    fn check(channels: usize, kernel: usize, frames: usize) {
        let (weights, bias) = (noise(channels * kernel, 1), noise(channels, 2));
        let convolution = GluDepthwiseConv::new(&weights, bias.clone()).unwrap();
        let left_context = kernel - 1;
        assert_eq!(convolution.left_context(), left_context);
        let (input, cache) = (noise(frames * 2 * channels, 3), noise(channels * left_context, 4));
        let (mut output, mut next) = (
            vec![f32::NAN; frames * channels],
            vec![f32::NAN; channels * left_context],
        );
        let places = (Output::new(&mut output, channels), Output::new(&mut next, channels));
        for task in (0..convolution.task_count()).rev() {
            let columns = convolution.columns_of(task);
            // SAFETY: one after the other.
            #[allow(unsafe_code)]
            let columns = unsafe { (places.0.columns(columns.clone()), places.1.columns(columns)) };
            convolution.convolve(task, (&input, &cache), columns);
        }
        // Frame `t` of channel `c`, cached ones first, in double precision.
        let frame = |t: usize, c: usize| match t.checked_sub(left_context) {
            None => f64::from(cache[t * channels + c]),
            Some(t) => {
                let [value, gate] = [c, channels + c].map(|at| f64::from(input[t * 2 * channels + at]));
                value / (1.0 + (-gate).exp())
            }
        };
        for (t, c) in (0..frames).flat_map(|t| (0..channels).map(move |c| (t, c))) {
            let taps = (0..kernel).map(|k| f64::from(weights[c * kernel + k]) * frame(t + k, c));
            let expected = f64::from(bias[c]) + taps.sum::<f64>();
            assert!((f64::from(output[t * channels + c]) - expected).abs() < 2e-6);
        }
        for (c, k) in (0..channels).flat_map(|c| (0..left_context).map(move |k| (c, k))) {
            assert!((f64::from(next[k * channels + c]) - frame(frames + k, c)).abs() < 1e-6);
        }
        assert!(!convolution.accepts(&input[1..], &cache) && !convolution.accepts(&input, &cache[1..]));
    }

    #[test]
    #[cfg_attr(miri, ignore = "sizes of real layers take Miri minutes")]
    fn sizes_of_real_layers() {
        for frames in [1, 2, 7, 14] {
            check(512, 9, frames);
        }
        check(1024, 9, 2);
        check(176, 31, 1);
    }

    #[test]
    fn mismatched_sizes_are_rejected() {
        assert!(GluDepthwiseConv::new(&[0.0; 7], vec![0.0; 2]).is_none());
        assert!(GluDepthwiseConv::new(&[0.0; 2], vec![0.0; 2]).is_none());
        assert!(GluDepthwiseConv::new(&[], vec![]).is_none());
    }

    proptest! {
        #![proptest_config(cases(48))]
        #[test]
        fn any_size(channels in 1_usize..most(300), kernel in 2_usize..12, frames in 1_usize..5) {
            check(channels, kernel, frames);
        }
    }
}

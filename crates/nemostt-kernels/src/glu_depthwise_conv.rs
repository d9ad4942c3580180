// SPDX-License-Identifier: MIT OR Apache-2.0

//! The middle of a Conformer's convolution module: gated linear units, then a causal depthwise convolution over time:
//!
//! ```text
//! gated(t, c)  = input(t, c) · sigmoid(input(t, channels + c))
//! output(t, c) = bias(c) + Σ_k weight(k, c) · frame(t + k, c)
//! ```
//!
//! where the frames are the cached ones followed by the gated ones; the last of them become the next cache. The cache
//! is stored frame by frame: NeMo's layout, channel by channel, would need two transposes per step. ONNX Runtime runs
//! 12 nodes for this, half of which only transpose.

use std::{cell::RefCell, ops::Range};

use pulp::{Arch, Simd, WithSimd};

use super::{
    fused_op::{FusedOp, OutputShape, ProgramError, Signature, Split, Task},
    gemm::ColumnsMut,
    simd_math::exp,
};

/// Channels per task.
const TASK_CHANNELS: usize = 128;

/// Parameters of the convolution.
#[derive(Debug, Clone)]
pub struct GluDepthwiseConv {
    /// \[kernel, channels\].
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl GluDepthwiseConv {
    /// A convolution with weights \[channels, kernel\]. Returns `None` if sizes do not match.
    pub fn new(weights: &[f32], bias: Vec<f32>) -> Option<Self> {
        let channels = bias.len();
        let kernel = weights.len().checked_div(channels)?;
        if kernel < 2 || kernel * channels != weights.len() {
            return None;
        }
        let transposed = (0..weights.len()).map(|i| weights[(i % channels) * kernel + i / channels]);
        Some(Self {
            weights: transposed.collect(),
            bias,
        })
    }

    /// Output channels: half as many as input channels.
    pub fn channels(&self) -> usize {
        self.bias.len()
    }

    /// Number of cached frames.
    pub fn left_context(&self) -> usize {
        self.weights.len() / self.channels() - 1
    }

    /// Whether input \[frames, 2 · channels\] and cache \[left_context, channels\] have valid sizes.
    pub fn accepts(&self, input: &[f32], cache: &[f32]) -> bool {
        self.accepts_lengths(input.len(), cache.len())
    }

    /// As [`accepts`](Self::accepts), for lengths.
    pub(super) fn accepts_lengths(&self, input: usize, cache: usize) -> bool {
        input.is_multiple_of(2 * self.channels()) && cache == self.channels() * self.left_context()
    }

    /// Number of tasks into which [`convolve`](Self::convolve) is divided.
    pub fn task_count(&self) -> usize {
        self.channels().div_ceil(TASK_CHANNELS)
    }

    /// The columns of both outputs that task `task` writes. Those of different tasks are disjoint.
    ///
    /// # Panics
    /// If the task is out of range.
    pub fn columns_of(&self, task: usize) -> Range<usize> {
        assert!(task < self.task_count());
        task * TASK_CHANNELS..self.channels().min((task + 1) * TASK_CHANNELS)
    }

    /// Runs task `task`. All tasks together write all of `output`, \[frames, channels\], and of `next`, \[left_context,
    /// channels\].
    ///
    /// # Panics
    /// If the input is not [accepted](Self::accepts), or outputs do not contain the [columns](Self::columns_of) of the
    /// task.
    pub fn convolve(
        &self,
        task: usize,
        (input, cache): (&[f32], &[f32]),
        (mut output, mut next): (ColumnsMut<'_>, ColumnsMut<'_>),
    ) {
        thread_local! {
            /// Buffer for the frames of one task.
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
                let mut acc = [0.0; TASK_CHANNELS];
                acc[..count].copy_from_slice(&self.bias[first..][..count]);
                Arch::new().dispatch(Taps {
                    weights: &self.weights[first..],
                    stride: channels,
                    frames: &scratch[frame * count..][..(left_context + 1) * count],
                    acc: &mut acc[..count],
                });
                output.put(frame, first, &acc[..count]);
            }
            for (row, values) in scratch.chunks_exact(count).skip(frames).enumerate() {
                next.put(row, first, values);
            }
        });
    }
}

/// Inputs: rows \[frames, 2 · channels\], cache \[left_context, channels\]. Outputs: rows \[frames, channels\], next cache.
impl FusedOp for GluDepthwiseConv {
    fn signature(&self) -> Signature {
        Signature::new([Some(2 * self.channels()), None], [self.channels(); 2])
    }

    fn infer(&self, lengths: &[usize]) -> Result<Vec<OutputShape>, ProgramError> {
        let width = self.channels();
        let rows = lengths[0] / (2 * width);
        match self.accepts_lengths(lengths[0], lengths[1]) {
            true => Ok(vec![OutputShape::Rows { rows, width }, OutputShape::Like(1)]),
            false => Err(ProgramError::ShapeMismatch),
        }
    }

    fn split(&self, _: &[usize], _: usize) -> Split {
        Split::Columns {
            block: TASK_CHANNELS,
            tasks: self.task_count(),
        }
    }

    fn run(&self, task: &mut Task<'_>) {
        let (index, inputs) = (task.index(), (task.input(0), task.input(1)));
        self.convolve(index, inputs, task.columns_mut().into());
    }
}

/// Gated linear units of channels `first..first + count`.
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
                let exp_neg = exp(simd, simd.neg_f32s(gate));
                *gated = simd.div_f32s(value, simd.add_f32s(one, exp_neg));
            }
            for ((gated, value), gate) in gated_rest.iter_mut().zip(values_rest).zip(gates_rest) {
                *gated = value / (1.0 + (-gate).exp());
            }
        }
    }
}

/// One output frame: all taps of each channel.
struct Taps<'a> {
    /// From the first channel of the first tap on; taps are `stride` values apart.
    weights: &'a [f32],
    stride: usize,
    /// \[taps, channels\].
    frames: &'a [f32],
    acc: &'a mut [f32],
}

impl WithSimd for Taps<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let count = self.acc.len();
        for (tap, frame) in self.frames.chunks_exact(count).enumerate() {
            let weights = &self.weights[tap * self.stride..][..count];
            let ((weights, weights_rest), (frame, frame_rest)) = (S::as_simd_f32s(weights), S::as_simd_f32s(frame));
            let (acc, sums_rest) = S::as_mut_simd_f32s(&mut *self.acc);
            for ((sum, &weight), &value) in acc.iter_mut().zip(weights).zip(frame) {
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
        let outputs = (Output::new(&mut output, channels), Output::new(&mut next, channels));
        for task in (0..convolution.task_count()).rev() {
            let columns = convolution.columns_of(task);
            // SAFETY: tasks run one after the other.
            #[allow(unsafe_code)]
            let columns = unsafe { (outputs.0.columns(columns.clone()), outputs.1.columns(columns)) };
            convolution.convolve(task, (&input, &cache), columns);
        }
        // Float64 reference: frame `t` of channel `c`, cached frames first.
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

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Short-time Fourier transform: one frame of samples in, one power spectrum out.

use std::{f64::consts::PI, fmt, sync::Arc};

use realfft::{RealFftPlanner, RealToComplex};
use rustfft::num_complex::Complex;

/// A windowed Fourier transform with its scratch memory.
pub(super) struct Spectrum {
    plan: Arc<dyn RealToComplex<f32>>,
    window: Vec<f32>,
    /// Where the window begins in the transform: torch centers a short window.
    offset: usize,
    input: Vec<f32>,
    output: Vec<Complex<f32>>,
    scratch: Vec<Complex<f32>>,
    power: Vec<f32>,
}

impl Spectrum {
    /// A symmetric Hann window of `window` points in the middle of `fft` points.
    pub(super) fn new(window: usize, fft: usize) -> Self {
        let plan = RealFftPlanner::new().plan_fft_forward(fft);
        // `torch.hann_window(n, periodic=False)`: both ends are zero.
        let last = (window.max(2) - 1) as f64;
        let hann = |i: usize| (0.5 - 0.5 * (2.0 * PI * i as f64 / last).cos()) as f32;
        Self {
            window: (0..window).map(hann).collect(),
            offset: (fft - window) / 2,
            input: plan.make_input_vec(),
            output: plan.make_output_vec(),
            scratch: plan.make_scratch_vec(),
            power: vec![0.0; fft / 2 + 1],
            plan,
        }
    }

    /// Squared magnitudes of the `fft / 2 + 1` bins of `samples`, of which there must be as many as the window has
    /// points.
    pub(super) fn power(&mut self, samples: &[f32]) -> &[f32] {
        debug_assert_eq!(samples.len(), self.window.len());
        // The transform overwrites its input, so the zeros around the window are written every time.
        self.input.fill(0.0);
        let windowed = &mut self.input[self.offset..];
        for ((out, sample), weight) in windowed.iter_mut().zip(samples).zip(&self.window) {
            *out = sample * weight;
        }
        // Fails only if the length of a buffer does not match the plan's.
        let done = self
            .plan
            .process_with_scratch(&mut self.input, &mut self.output, &mut self.scratch);
        debug_assert!(done.is_ok());
        for (power, bin) in self.power.iter_mut().zip(&self.output) {
            *power = bin.norm_sqr();
        }
        &self.power
    }
}

impl fmt::Debug for Spectrum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spectrum({} of {})", self.window.len(), self.input.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sine_has_its_peak_in_its_bin() {
        let mut spectrum = Spectrum::new(400, 512);
        let sine: Vec<f32> = (0..400)
            .map(|i| (2.0 * PI * 64.0 * i as f64 / 512.0).sin() as f32)
            .collect();
        let power = spectrum.power(&sine);
        let loudest = (0..power.len()).max_by(|&a, &b| power[a].total_cmp(&power[b]));
        assert_eq!(loudest, Some(64));
        // A sine with a window of sum S has |X| = S / 2; a symmetric Hann window of n points sums to (n - 1) / 2.
        assert!((power[64].sqrt() - 399.0 / 4.0).abs() < 0.1, "{}", power[64].sqrt());
    }

    #[test]
    fn power_is_reproducible() {
        let mut spectrum = Spectrum::new(400, 512);
        let frame: Vec<f32> = (0..400).map(|i| ((i * 37) % 101) as f32 / 101.0).collect();
        let first = spectrum.power(&frame).to_vec();
        spectrum.power(&[1.0; 400]);
        assert_eq!(first, spectrum.power(&frame));
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The mel filterbank: librosa's `filters.mel(sr, n_fft, n_mels, fmin=0, fmax=sr/2, norm="slaney", htk=False)`.
//!
//! Each band covers few of the 257 bins, so it is stored as a run of weights with its first bin.

use super::fast_ln::ln_in_place;

/// Slaney's scale is linear up to 1 kHz and logarithmic above (Auditory Toolbox; librosa `hz_to_mel`).
const HZ_PER_MEL: f64 = 200.0 / 3.0;
const LOG_FROM_HZ: f64 = 1000.0;
const LOG_FROM_MEL: f64 = LOG_FROM_HZ / HZ_PER_MEL;
/// 27 steps of the logarithmic part lead from 1 kHz to 6.4 kHz.
const LOG_STEPS: f64 = 27.0;
const LOG_RATIO: f64 = 6.4;

/// NeMo's `log_zero_guard_value`: 2^-24 is added before the logarithm, so digital silence is -16.635532.
const LOG_GUARD: f32 = 1.0 / (1 << 24) as f32;

/// Triangular filters over the bins of one power spectrum.
#[derive(Debug)]
pub(super) struct FilterBank {
    bands: Vec<Band>,
    weights: Vec<f32>,
}

#[derive(Debug)]
struct Band {
    first_bin: usize,
    weights: std::ops::Range<usize>,
}

impl FilterBank {
    /// `mels` filters for power spectra of `fft / 2 + 1` bins.
    pub(super) fn new(sample_rate: u32, fft: usize, mels: usize) -> Self {
        let nyquist = f64::from(sample_rate) / 2.0;
        let top = hz_to_mel(nyquist);
        // Corners of the triangles: band m rises from corner m to m + 1 and falls to m + 2.
        let corners: Vec<f64> = (0..mels + 2)
            .map(|m| mel_to_hz(top * m as f64 / (mels + 1) as f64))
            .collect();

        let mut bank = Self {
            bands: Vec::with_capacity(mels),
            weights: Vec::new(),
        };
        for corner in corners.windows(3) {
            let [low, center, high] = [corner[0], corner[1], corner[2]];
            let area = 2.0 / (high - low);
            let triangle = |bin: usize| {
                let hz = bin as f64 * f64::from(sample_rate) / fft as f64;
                let height = ((hz - low) / (center - low)).min((high - hz) / (high - center));
                // librosa rounds to f32 before and after scaling by the area, so this does, too.
                (f64::from(height.max(0.0) as f32) * area) as f32
            };
            let touched = |bin: &usize| triangle(*bin) > 0.0;
            let first_bin = (0..=fft / 2).find(touched).unwrap_or(0);
            let end = (0..=fft / 2).rfind(touched).map_or(first_bin, |bin| bin + 1);
            let start = bank.weights.len();
            bank.weights.extend((first_bin..end).map(triangle));
            bank.bands.push(Band {
                first_bin,
                weights: start..bank.weights.len(),
            });
        }
        bank
    }

    /// Computes `log_mel[m] = ln(sum of weights x power + 2^-24)` from `power`, \[fft / 2 + 1\], into `log_mel`,
    /// \[mels\].
    pub(super) fn log_mel(&self, power: &[f32], log_mel: &mut [f32]) {
        for (band, out) in self.bands.iter().zip(&mut *log_mel) {
            let weights = &self.weights[band.weights.clone()];
            let bins = &power[band.first_bin..band.first_bin + weights.len()];
            let energy: f32 = bins.iter().zip(weights).map(|(p, w)| p * w).sum();
            *out = energy + LOG_GUARD;
        }
        ln_in_place(log_mel);
    }
}

fn hz_to_mel(hz: f64) -> f64 {
    if hz < LOG_FROM_HZ {
        hz / HZ_PER_MEL
    } else {
        LOG_FROM_MEL + (hz / LOG_FROM_HZ).ln() / LOG_RATIO.ln() * LOG_STEPS
    }
}

fn mel_to_hz(mel: f64) -> f64 {
    if mel < LOG_FROM_MEL {
        mel * HZ_PER_MEL
    } else {
        LOG_FROM_HZ * ((mel - LOG_FROM_MEL) * LOG_RATIO.ln() / LOG_STEPS).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mel_scale_is_slaneys() {
        assert!((hz_to_mel(1000.0) - 15.0).abs() < 1e-12);
        assert!((hz_to_mel(6400.0) - 42.0).abs() < 1e-9);
        for hz in [0.0, 300.0, 999.0, 1001.0, 8000.0] {
            assert!((mel_to_hz(hz_to_mel(hz)) - hz).abs() < 1e-9);
        }
    }

    #[test]
    fn filter_weights_match_librosa() {
        // librosa.filters.mel(sr=16000, n_fft=512, n_mels=80)[0, 1] and [79, 250].
        let bank = FilterBank::new(16_000, 512, 80);
        let weight = |band: usize, bin: usize| {
            let band = &bank.bands[band];
            bank.weights[band.weights.clone()][bin - band.first_bin]
        };
        assert!((weight(0, 1) - 0.022_534_56).abs() < 1e-7, "{}", weight(0, 1));
        assert!((weight(79, 250) - 0.002_103_558).abs() < 1e-8, "{}", weight(79, 250));
    }

    #[test]
    fn log_mel_of_silence_is_ln_of_guard() {
        let bank = FilterBank::new(16_000, 512, 80);
        let mut out = [0.0; 80];
        bank.log_mel(&[0.0; 257], &mut out);
        assert!(out.iter().all(|&v| v == -16.635_532));
    }
}

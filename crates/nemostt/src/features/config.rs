// SPDX-License-Identifier: MIT OR Apache-2.0

//! Parameters of the mel front end, under NeMo's names.

use serde::Deserialize;

use nemostt_compiler::GraphError;

/// NeMo's `preprocessor` section (`AudioToMelSpectrogramPreprocessor`), as far as inference needs it.
///
/// Every cache-aware streaming checkpoint that NVIDIA has published uses the defaults, except for `features`.
/// The `preprocessor` object of a model directory's `nemostt.json` overrides them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Preprocessor {
    /// Samples per second.
    pub sample_rate: u32,
    /// Length of the window in seconds.
    pub window_size: f64,
    /// Step between two frames in seconds.
    pub window_stride: f64,
    /// Name of the window function; only `hann` is supported.
    pub window: String,
    /// Points of the Fourier transform.
    pub n_fft: usize,
    /// Mel bands; `None`: as many as the graph expects.
    pub features: Option<usize>,
    /// `NA` (none) for streaming models. Anything else needs the whole recording.
    pub normalize: String,
    /// Pre-emphasis coefficient.
    pub preemph: f32,
}

impl Default for Preprocessor {
    fn default() -> Self {
        Self {
            sample_rate: 16_000,
            window_size: 0.025,
            window_stride: 0.01,
            window: "hann".into(),
            n_fft: 512,
            features: None,
            normalize: "NA".into(),
            preemph: 0.97,
        }
    }
}

/// The same parameters in samples, validated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FrontEndConfig {
    /// Samples per second.
    pub sample_rate: u32,
    /// Length of the window in samples.
    pub window: usize,
    /// Samples from one frame to the next.
    pub hop: usize,
    /// Points of the Fourier transform, in which the window is centered.
    pub fft: usize,
    /// Mel bands.
    pub mels: usize,
    /// Pre-emphasis coefficient.
    pub preemphasis: f32,
}

impl FrontEndConfig {
    /// NeMo's defaults with `mels` mel bands.
    pub fn nemo(mels: usize) -> Self {
        Self {
            sample_rate: 16_000,
            window: 400,
            hop: 160,
            fft: 512,
            mels,
            preemphasis: 0.97,
        }
    }

    /// Validates `preprocessor` for a graph that expects `mels` mel bands.
    ///
    /// # Errors
    /// If a value is not supported; the error names the value and the reason.
    pub fn new(preprocessor: &Preprocessor, mels: usize) -> Result<Self, GraphError> {
        match preprocessor.normalize.as_str() {
            "" | "NA" | "None" | "none" => {}
            kind => {
                return Err(GraphError::OfflineFeatures { normalize: kind.into() });
            }
        }
        if preprocessor.window != "hann" {
            return Err(GraphError::FrontEnd(format!(
                "its window function is {}; only hann is supported",
                preprocessor.window
            )));
        }
        if let Some(features) = preprocessor.features.filter(|&n| n != mels) {
            return Err(GraphError::FrontEnd(format!(
                "its preprocessor has {features} mel bands, but its encoder expects {mels}: nemostt.json belongs to another \
                 model"
            )));
        }
        let samples = |seconds: f64| (seconds * f64::from(preprocessor.sample_rate)).round() as usize;
        let config = Self {
            sample_rate: preprocessor.sample_rate,
            window: samples(preprocessor.window_size),
            hop: samples(preprocessor.window_stride),
            fft: preprocessor.n_fft,
            mels,
            preemphasis: preprocessor.preemph,
        };
        config.check().map(|()| config)
    }

    fn check(&self) -> Result<(), GraphError> {
        let among = |what: &str, value: usize, least: usize, most: usize| match (least..=most).contains(&value) {
            true => Ok(()),
            false => Err(GraphError::FrontEnd(format!(
                "its {what} is {value}, expected {least} to {most}: correct preprocessor in nemostt.json"
            ))),
        };
        among("number of mel bands", self.mels, 1, 1024)?;
        among("sample_rate", self.sample_rate as usize, 8_000, 192_000)?;
        among("n_fft", self.fft, 2, 1 << 16)?;
        if !self.fft.is_multiple_of(2) {
            return Err(GraphError::FrontEnd(format!(
                "its n_fft is {}, expected an even number",
                self.fft
            )));
        }
        among("window_size in samples", self.window, 1, self.fft)?;
        // Times are reported in milliseconds.
        let least = (self.sample_rate as usize).div_ceil(1000);
        among("window_stride in samples", self.hop, least, self.window)?;
        match self.preemphasis.is_finite() {
            true => Ok(()),
            false => Err(GraphError::FrontEnd(
                "its preemph is not a number, expected 0 to 1".into(),
            )),
        }
    }

    /// Number of mel frames of a stream of `samples` samples: NeMo's `floor(L / hop) + 1`.
    pub fn frames(&self, samples: u64) -> u64 {
        samples / self.hop as u64 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_match_nemo() {
        assert_eq!(
            FrontEndConfig::new(&Preprocessor::default(), 80),
            Ok(FrontEndConfig::nemo(80))
        );
    }

    #[test]
    fn per_feature_normalization_is_rejected() {
        let offline = Preprocessor {
            normalize: "per_feature".into(),
            ..Default::default()
        };
        let reason = FrontEndConfig::new(&offline, 80).unwrap_err().to_string();
        assert!(
            reason.contains("per_feature") && reason.contains("whole recording"),
            "{reason}"
        );
    }

    #[test]
    fn mismatched_mel_counts_are_rejected() {
        let other = Preprocessor {
            features: Some(128),
            ..Default::default()
        };
        let reason = FrontEndConfig::new(&other, 80).unwrap_err().to_string();
        assert!(reason.contains("128"), "{reason}");
    }

    #[test]
    fn errors_name_the_unsupported_value() {
        type Change = fn(&mut Preprocessor);
        let of = |change: Change| {
            let mut preprocessor = Preprocessor::default();
            change(&mut preprocessor);
            FrontEndConfig::new(&preprocessor, 80).unwrap_err().to_string()
        };
        let cases: [(Change, &str); 8] = [
            (
                |p| p.window_stride = 0.000_062_5,
                "window_stride in samples is 1, expected 16 to 400",
            ),
            (
                |p| p.window_stride = 0.03,
                "window_stride in samples is 480, expected 16 to 400",
            ),
            (|p| p.window_stride = -1.0, "window_stride in samples is 0"),
            (|p| p.window_size = 1e300, "window_size in samples is"),
            (|p| p.n_fft = 511, "n_fft is 511, expected an even number"),
            (|p| p.n_fft = 0, "n_fft is 0, expected 2 to 65536"),
            (|p| p.sample_rate = 0, "sample_rate is 0, expected 8000 to 192000"),
            (|p| p.preemph = f32::NAN, "preemph is not a number"),
        ];
        for (change, words) in cases {
            let error = of(change);
            assert!(error.contains(words), "\"{words}\" is not in: {error}");
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The incremental log-mel front end, equal to NeMo's `AudioToMelSpectrogramPreprocessor` at inference.
//!
//! With x the samples and `y[n] = x[n] - 0.97 x[n-1]` (`y[0] = x[0]`), frame t is the log-mel spectrum of `y[hop t -
//! window/2, hop t + window/2)`, where y is zero before the start and after the end of the stream. A frame is computed
//! once, when its last sample has arrived, so the way audio is cut into buffers cannot change a bit of it.
//!
//! L samples give floor(L / hop) + 1 frames. The last one is beyond NeMo's `seq_len` and masked to 0.0, but NeMo's
//! streaming buffer feeds it to the encoder all the same (`parts/preprocessing/features.py`,
//! `CacheAwareStreamingAudioBuffer`). If the hop is longer than half of the window, a frame therefore also waits for
//! the first sample of the next one: without it, it is the last one.

mod config;
mod fast_ln;
mod mel;
mod stft;

pub use config::{FrontEndConfig, Preprocessor};
use mel::FilterBank;
use stft::Spectrum;

/// Samples are processed in blocks of at most this many, which bounds the front end's memory.
const BLOCK: usize = 1600;

/// Turns samples into mel frames, one stream at a time.
#[derive(Debug)]
pub struct FrontEnd {
    config: FrontEndConfig,
    spectrum: Spectrum,
    bank: FilterBank,
    /// Pre-emphasized samples from the start of the next frame's window on.
    pre_emphasized: Vec<f32>,
    /// The last raw sample, for pre-emphasis across buffers.
    previous: f32,
    /// Samples accepted since the start of the stream.
    samples: u64,
    /// Frames emitted since the start of the stream.
    frames: u64,
    frame: Vec<f32>,
}

/// The state of a [`FrontEnd`] between blocks of samples.
#[derive(Debug, Default)]
pub(crate) struct FrontEndSnapshot {
    pre_emphasized: Vec<f32>,
    previous: f32,
    samples: u64,
    frames: u64,
}

impl FrontEnd {
    /// A front end at the start of a stream.
    pub fn new(config: FrontEndConfig) -> Self {
        let mut front_end = Self {
            config,
            spectrum: Spectrum::new(config.window, config.fft),
            bank: FilterBank::new(config.sample_rate, config.fft, config.mels),
            pre_emphasized: Vec::with_capacity(needed(&config) + BLOCK),
            previous: 0.0,
            samples: 0,
            frames: 0,
            frame: vec![0.0; config.mels],
        };
        front_end.reset();
        front_end
    }

    /// Its parameters.
    pub fn config(&self) -> &FrontEndConfig {
        &self.config
    }

    /// Samples accepted since the start of the stream.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Processes mono samples, -1.0 to 1.0, and calls `frame` with each mel frame that they complete, \[mels\]. A frame with a
    /// [sample that is not valid](crate::Stream::is_valid_sample) is not a number.
    ///
    /// # Errors
    /// Those of `frame`, after which the stream must be reset.
    pub fn accept<E>(&mut self, samples: &[f32], mut frame: impl FnMut(&[f32]) -> Result<(), E>) -> Result<(), E> {
        for block in samples.chunks(BLOCK) {
            self.pre_emphasize(block);
            self.complete_frames(&mut frame)?;
        }
        Ok(())
    }

    /// Ends the stream: calls `frame` with the frames whose windows extend beyond its end, and with the masked last
    /// one.
    ///
    /// # Errors
    /// Those of `frame`, after which the stream must be reset.
    pub fn finish<E>(&mut self, mut frame: impl FnMut(&[f32]) -> Result<(), E>) -> Result<(), E> {
        let due = self.config.frames(self.samples) - 1;
        // Zeros of y, not of x: NeMo pads after pre-emphasis.
        let window = self.config.window;
        while self.frames < due {
            let padded = self.pre_emphasized.len().max(window);
            self.pre_emphasized.resize(padded, 0.0);
            self.next_frame(0, &mut frame)?;
            self.pre_emphasized.drain(..self.config.hop);
        }
        self.frame.fill(0.0);
        self.frames += 1;
        frame(&self.frame)
    }

    /// Resets to the start of a stream; all allocations are kept.
    pub fn reset(&mut self) {
        self.pre_emphasized.clear();
        self.pre_emphasized.resize(self.config.window / 2, 0.0);
        self.previous = 0.0;
        self.samples = 0;
        self.frames = 0;
    }

    /// Copies what [`reset`](Self::reset) clears.
    pub(crate) fn save(&self, snapshot: &mut FrontEndSnapshot) {
        snapshot.pre_emphasized.clone_from(&self.pre_emphasized);
        snapshot.previous = self.previous;
        snapshot.samples = self.samples;
        snapshot.frames = self.frames;
    }

    /// Restores the state saved in `snapshot`; all allocations are kept.
    pub(crate) fn restore(&mut self, snapshot: &FrontEndSnapshot) {
        self.pre_emphasized.clone_from(&snapshot.pre_emphasized);
        self.previous = snapshot.previous;
        self.samples = snapshot.samples;
        self.frames = snapshot.frames;
    }

    fn pre_emphasize(&mut self, block: &[f32]) {
        let (Some(&first), Some(&last)) = (block.first(), block.last()) else {
            return;
        };
        let factor = self.config.preemphasis;
        // previous is 0 at the start, so y[0] = x[0].
        self.pre_emphasized.push(first - factor * self.previous);
        // Written so that it is vectorized: sample by sample, it took a sixth of the front end's time.
        let pairs = block.windows(2);
        self.pre_emphasized.extend(pairs.map(|pair| pair[1] - factor * pair[0]));
        self.previous = last;
        self.samples += block.len() as u64;
    }

    fn complete_frames<E>(&mut self, frame: &mut impl FnMut(&[f32]) -> Result<(), E>) -> Result<(), E> {
        let mut start = 0;
        while start + needed(&self.config) <= self.pre_emphasized.len() {
            self.next_frame(start, frame)?;
            start += self.config.hop;
        }
        self.pre_emphasized.drain(..start);
        Ok(())
    }

    fn next_frame<E>(&mut self, start: usize, frame: &mut impl FnMut(&[f32]) -> Result<(), E>) -> Result<(), E> {
        let samples = &self.pre_emphasized[start..start + self.config.window];
        self.bank.log_mel(self.spectrum.power(samples), &mut self.frame);
        self.frames += 1;
        frame(&self.frame)
    }
}

/// Samples from the start of a frame's window on that must have arrived before the frame is emitted.
fn needed(config: &FrontEndConfig) -> usize {
    config.window.max(config.window / 2 + config.hop)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl FrontEnd {
        /// The frames that `samples` complete.
        fn frames_of(&mut self, samples: &[f32]) -> Vec<Vec<f32>> {
            let mut frames = Vec::new();
            let Ok(()) = self.accept(samples, |f| -> Result<(), std::convert::Infallible> {
                frames.push(f.to_vec());
                Ok(())
            });
            frames
        }

        fn last_frames(&mut self) -> Vec<Vec<f32>> {
            let mut frames = Vec::new();
            let Ok(()) = self.finish(|f| -> Result<(), std::convert::Infallible> {
                frames.push(f.to_vec());
                Ok(())
            });
            frames
        }
    }

    fn nemo() -> FrontEnd {
        FrontEnd::new(FrontEndConfig::nemo(80))
    }

    fn all_frames(samples: usize) -> Vec<Vec<f32>> {
        all_frames_of(nemo(), samples)
    }

    fn all_frames_of(mut front_end: FrontEnd, samples: usize) -> Vec<Vec<f32>> {
        let mut frames = front_end.frames_of(&vec![0.1; samples]);
        frames.extend(front_end.last_frames());
        frames
    }

    #[test]
    fn frame_count_matches_nemo() {
        for samples in [0, 1, 159, 160, 161, 199, 200, 359, 360, 1599, 1600, 1601, 30_123] {
            assert_eq!(all_frames(samples).len(), samples / 160 + 1, "{samples} samples");
        }
    }

    #[test]
    fn only_the_last_frame_is_masked() {
        for hop in [160, 200, 201, 336, 400] {
            let config = FrontEndConfig {
                hop,
                ..FrontEndConfig::nemo(80)
            };
            for samples in [
                1,
                hop - 1,
                hop,
                hop + 199,
                hop + 200,
                1600,
                4 * hop,
                5 * hop - 1,
                16_000,
            ] {
                let frames = all_frames_of(FrontEnd::new(config), samples);
                assert_eq!(frames.len(), samples / hop + 1, "{samples} samples, {hop} a frame");
                let (last, others) = frames.split_last().unwrap();
                assert!(last.iter().all(|&v| v == 0.0));
                assert!(others.iter().all(|frame| frame.iter().any(|&v| v != 0.0)));
            }
        }
    }

    #[test]
    fn frame_is_emitted_with_its_last_sample() {
        let mut front_end = nemo();
        let counts = [199, 1, 159, 1].map(|samples| front_end.frames_of(&vec![0.1; samples]).len());
        assert_eq!(counts, [0, 1, 0, 1]);
    }

    #[test]
    fn buffer_is_not_reallocated() {
        let mut front_end = nemo();
        let capacity = front_end.pre_emphasized.capacity();
        front_end.frames_of(&vec![0.1; 100_000]);
        front_end.last_frames();
        assert_eq!(front_end.pre_emphasized.capacity(), capacity);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where the samples come from: a WAV file of any common sample type, or raw samples on standard input.

use std::{
    fs::File,
    io::{self, BufReader, Read, StdinLock},
    path::{Path, PathBuf},
};

use hound::{SampleFormat, WavReader};

use crate::Result;

/// Frames read at a time. At 16 kHz they last 100 ms, so that words appear soon after they were said.
const BLOCK: usize = 1600;

/// A source of mono samples.
pub enum Input {
    /// A WAV file.
    Wav(Wav),
    /// Raw 16-bit little-endian mono samples.
    Raw(Raw<StdinLock<'static>>),
}

impl Input {
    /// Opens the WAV file `path`; `-` is standard input.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(match path.to_str() {
            Some("-") => Self::Raw(Raw::new(io::stdin().lock())),
            _ => Self::Wav(Wav::open(path)?),
        })
    }

    /// An error, with the cure, unless this is at `rate` samples per second.
    pub fn check_rate(&self, rate: u32) -> Result<()> {
        match self {
            Self::Wav(wav) => wav.check_rate(rate),
            // Raw samples do not say what they are.
            Self::Raw(_) => Ok(()),
        }
    }

    /// Frames in all, where that is known beforehand.
    pub fn frames(&self) -> Option<u64> {
        match self {
            Self::Wav(wav) => Some(u64::from(wav.reader.duration())),
            Self::Raw(_) => None,
        }
    }

    /// Replaces `mono` by the next samples, -1.0 to 1.0; by none at the end.
    pub fn read(&mut self, mono: &mut Vec<f32>) -> Result<()> {
        mono.clear();
        match self {
            Self::Wav(wav) => wav.read(mono),
            Self::Raw(raw) => raw.read(mono),
        }
    }
}

/// A WAV file.
pub struct Wav {
    reader: WavReader<BufReader<File>>,
    path: PathBuf,
    /// Frames read.
    frames: u64,
}

impl Wav {
    fn open(path: &Path) -> Result<Self> {
        let unreadable = |error: io::Error| format!("cannot read {}: {error}", path.display());
        let file = File::open(path).map_err(unreadable)?;
        let reader = WavReader::new(BufReader::new(file)).map_err(|error| match error {
            // hound's own error for the end of the file has no number.
            hound::Error::IoError(error) if error.raw_os_error().is_some() => unreadable(error),
            hound::Error::IoError(_) => format!("{} is not a WAV file, or is cut short in its header", path.display()),
            error => format!(
                "{} is not a WAV file to read here ({error}); {}",
                path.display(),
                cure(path, 16_000)
            ),
        })?;
        Ok(Self {
            reader,
            path: path.into(),
            frames: 0,
        })
    }

    fn check_rate(&self, rate: u32) -> Result<()> {
        let found = self.reader.spec().sample_rate;
        if found == rate {
            return Ok(());
        }
        let path = self.path.display();
        Err(format!(
            "{path} has {found} samples per second, and the model needs {rate}; {}",
            cure(&self.path, rate)
        )
        .into())
    }

    fn read(&mut self, mono: &mut Vec<f32>) -> Result<()> {
        let spec = self.reader.spec();
        let channels = usize::from(spec.channels);
        let result = match spec.sample_format {
            SampleFormat::Float => mix(self.reader.samples::<f32>(), channels, mono),
            SampleFormat::Int => {
                let full_scale = 2_f32.powi(i32::from(spec.bits_per_sample) - 1);
                let samples = self.reader.samples::<i32>();
                mix(samples.map(|sample| Ok(sample? as f32 / full_scale)), channels, mono)
            }
        };
        result.map_err(|error| self.explain(&error, mono.len()))?;
        self.frames += mono.len() as u64;
        if mono.iter().all(|sample| sample.is_finite()) {
            return Ok(());
        }
        // The model would remember it for the rest of the stream.
        Err(format!("{} holds samples that are not numbers", self.path.display()).into())
    }

    /// What a failure after `more` frames of a block means.
    fn explain(&self, error: &hound::Error, more: usize) -> String {
        let path = self.path.display();
        let seconds = |frames: u64| frames as f64 / f64::from(self.reader.spec().sample_rate);
        match error {
            hound::Error::IoError(error) if error.raw_os_error().is_none() => format!(
                "{path} is cut short: it ends after {:.2} of {:.2} s",
                seconds(self.frames + more as u64),
                seconds(u64::from(self.reader.duration()))
            ),
            error => format!("cannot read {path}: {error}"),
        }
    }
}

/// Averages the channels of up to a block of frames.
fn mix(
    mut samples: impl Iterator<Item = hound::Result<f32>>,
    channels: usize,
    mono: &mut Vec<f32>,
) -> hound::Result<()> {
    while mono.len() < BLOCK {
        let Some(first) = samples.next() else { break };
        let mut sum = first?;
        for sample in samples.by_ref().take(channels - 1) {
            sum += sample?;
        }
        mono.push(sum / channels as f32);
    }
    Ok(())
}

/// Tells how to convert `path` to a WAV file of `rate` samples per second.
fn cure(path: &Path, rate: u32) -> String {
    let converted = path.with_extension(format!("{rate}.wav"));
    format!(
        "convert it with: gst-launch-1.0 filesrc {} ! decodebin ! audioconvert ! audioresample ! audio/x-raw,rate={rate} ! \
         wavenc ! filesink {}",
        quoted(&format!("location={}", path.display())),
        quoted(&format!("location={}", converted.display()))
    )
}

/// `word` as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "=/._-+,:@%".contains(c);
    if word.chars().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Raw 16-bit little-endian mono samples.
pub struct Raw<R> {
    reader: R,
    bytes: Vec<u8>,
    /// Bytes at the start of `bytes` that wait for the rest of their sample.
    waiting: usize,
}

impl<R: Read> Raw<R> {
    fn new(reader: R) -> Self {
        Self {
            reader,
            bytes: vec![0; 2 * BLOCK],
            waiting: 0,
        }
    }

    /// Takes what is there rather than waiting for a full block: someone may be speaking.
    fn read(&mut self, mono: &mut Vec<f32>) -> Result<()> {
        while mono.is_empty() {
            let got = match self.reader.read(&mut self.bytes[self.waiting..]) {
                Ok(0) => break,
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("cannot read standard input: {error}").into()),
            };
            let all = self.waiting + got;
            let (samples, rest) = self.bytes[..all].as_chunks::<2>();
            mono.extend(
                samples
                    .iter()
                    .map(|&sample| f32::from(i16::from_le_bytes(sample)) / 32_768.0),
            );
            self.waiting = rest.len();
            self.bytes.copy_within(all - self.waiting..all, 0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hound::{WavSpec, WavWriter};

    use super::*;

    /// Gives one byte more each time, whatever the cut through samples.
    struct Dribble(Vec<u8>, usize);

    impl Read for Dribble {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 += 1;
            let n = self.1.min(self.0.len()).min(buffer.len());
            for (to, from) in buffer.iter_mut().zip(self.0.drain(..n)) {
                *to = from;
            }
            Ok(n)
        }
    }

    #[test]
    fn raw_samples_survive_any_cut() {
        let bytes: Vec<u8> = (0..1000_i16).flat_map(i16::to_le_bytes).collect();
        let mut raw = Raw::new(Dribble(bytes, 0));
        let (mut all, mut block) = (Vec::new(), Vec::new());
        loop {
            block.clear();
            raw.read(&mut block).unwrap();
            if block.is_empty() {
                break;
            }
            all.extend(block.iter().map(|sample| (sample * 32_768.0) as i16));
        }
        assert_eq!(all, (0..1000).collect::<Vec<i16>>());
    }

    /// A stereo file whose left channel is a quarter and whose right one is half of full scale, read.
    fn stereo(bits_per_sample: u16, sample_format: SampleFormat) -> Vec<f32> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stereo.wav");
        let spec = WavSpec {
            channels: 2,
            sample_rate: 16_000,
            bits_per_sample,
            sample_format,
        };
        let mut writer = WavWriter::create(&path, spec).unwrap();
        for _ in 0..2000 {
            for shift in [3, 2] {
                match sample_format {
                    SampleFormat::Float => writer.write_sample(2.0 / (1 << shift) as f32).unwrap(),
                    SampleFormat::Int => writer.write_sample(1_i32 << (bits_per_sample - shift)).unwrap(),
                }
            }
        }
        writer.finalize().unwrap();
        let mut input = Input::open(&path).unwrap();
        let (mut all, mut block) = (Vec::new(), vec![1.0]);
        while !block.is_empty() {
            input.read(&mut block).unwrap();
            all.extend_from_slice(&block);
        }
        all
    }

    #[test]
    fn channels_are_averaged_whatever_the_sample_type() {
        for bits in [8, 16, 24, 32] {
            assert_eq!(stereo(bits, SampleFormat::Int), vec![0.375; 2000], "{bits} bits");
        }
        assert_eq!(stereo(32, SampleFormat::Float), vec![0.375; 2000]);
    }

    #[test]
    fn the_cure_can_be_pasted_into_a_shell() {
        let cure = cure(Path::new("it's new/a b.mp3"), 16_000);
        assert!(cure.contains(r"filesrc 'location=it'\''s new/a b.mp3' !"), "{cure}");
        assert!(
            cure.ends_with(r"filesink 'location=it'\''s new/a b.16000.wav'"),
            "{cure}"
        );
    }
}

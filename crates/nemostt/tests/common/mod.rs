// SPDX-License-Identifier: MIT OR Apache-2.0

//! Shared by the tests: clips, NeMo's reference values, models.

#![allow(dead_code)] // every test file uses a part of it

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use ndarray::{Array1, Array2};
use ndarray_npy::NpzReader;
use nemostt::{DecoderKind, Device, Event, Options, Recognizer, Stream, Token, Word};

pub const CLIPS: [&str; 11] = [
    "e1_clip300ms",
    "e2_clip20ms",
    "e3_silence2s",
    "e4_noise3s",
    "e5_len112frames",
    "e6_odd",
    "u1_command",
    "u2_digits",
    "u3_long",
    "u4_heldvoice",
    "u5_eight_sentences",
];

/// Lookaheads in encoder frames of 80 ms.
pub const LOOKAHEADS: [usize; 4] = [0, 1, 6, 13];

/// The two models with reference values from NeMo: random weights (exact values, nonsense text) and the demo model.
pub const MODELS: [&str; 2] = ["tiny_random", "trained"];

/// The root of the repository, from any of its packages.
fn repository() -> &'static Path {
    let mut directories = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    directories
        .find(|directory| directory.join("tests/data").is_dir())
        .unwrap()
}

pub fn data(path: &str) -> PathBuf {
    repository().join("tests/data").join(path)
}

pub fn model_path(model: &str) -> PathBuf {
    match model {
        "trained" => repository().join("crates/nemostt/assets/demo-model"),
        other => data(other),
    }
}

pub fn clip_s16(clip: &str) -> Vec<i16> {
    let reader = hound::WavReader::open(data(&format!("wav/{clip}.wav"))).unwrap();
    reader.into_samples().map(Result::unwrap).collect()
}

pub fn clip(clip: &str) -> Vec<f32> {
    clip_s16(clip).into_iter().map(|s| f32::from(s) / 32_768.0).collect()
}

pub fn options(lookahead: usize, decoder: DecoderKind) -> Options {
    Options {
        lookahead: Some(lookahead as u32 * 80),
        decoder,
        // Running several tests at once is faster than one test on several threads.
        threads: 1,
        device: device(),
        ..Default::default()
    }
}

/// The device named by the environment, for `tools/validate_openvino.sh` and runs on a GPU.
fn device() -> Device {
    match std::env::var("NEMOSTT_TEST_DEVICE") {
        Ok(name) => name.parse().unwrap(),
        Err(_) => Device::default(),
    }
}

pub fn recognizer(model: &str, lookahead: usize, decoder: DecoderKind) -> Recognizer {
    Recognizer::load(model_path(model), &options(lookahead, decoder)).unwrap()
}

/// NeMo's reference values for one model.
pub struct Goldens(NpzReader<File>);

impl Goldens {
    pub fn open(name: &str) -> Self {
        let file = File::open(data(&format!("{name}.npz"))).unwrap();
        Self(NpzReader::new(file).unwrap())
    }

    /// NeMo's mel, \[mels, T\]; only in `mel.npz`.
    pub fn mel(&mut self, clip: &str) -> Array2<f32> {
        self.0.by_name(&format!("{clip}/mel.npy")).unwrap()
    }

    /// Output of NeMo's offline encoder, \[width, T'\].
    pub fn encoder(&mut self, clip: &str, lookahead: usize) -> Array2<f32> {
        self.encoder_at(&format!("{clip}/k{lookahead}"))
    }

    /// The same, by key.
    pub fn encoder_at(&mut self, key: &str) -> Array2<f32> {
        self.0.by_name(&format!("{key}/enc.npy")).unwrap()
    }

    /// Tokens of NeMo's greedy RNN-T decoding, with the frames in which they were emitted.
    pub fn tokens(&mut self, clip: &str, lookahead: usize) -> Vec<(usize, u64)> {
        self.tokens_at(&format!("{clip}/k{lookahead}"))
    }

    /// The same, by key.
    pub fn tokens_at(&mut self, key: &str) -> Vec<(usize, u64)> {
        let ids: Array1<i32> = self.0.by_name(&format!("{key}/tokens.npy")).unwrap();
        let frames: Array1<i32> = self.0.by_name(&format!("{key}/token_frames.npy")).unwrap();
        ids.iter()
            .zip(&frames)
            .map(|(&id, &frame)| (id as usize, frame as u64))
            .collect()
    }

    /// Tokens and frames of NeMo's greedy CTC decoding: the best id of each frame, without repeats and blanks (128).
    pub fn ctc(&mut self, clip: &str, lookahead: usize) -> Vec<(usize, u64)> {
        let best: Array1<i32> = self.0.by_name(&format!("{clip}/k{lookahead}/ctc.npy")).unwrap();
        let mut previous = 128;
        let mut tokens = Vec::new();
        for (frame, &id) in best.iter().enumerate() {
            if id != previous && id != 128 {
                tokens.push((id as usize, frame as u64));
            }
            previous = id;
        }
        tokens
    }

    /// Length of the encoder's cache after each step of NeMo's streaming.
    pub fn cache_len(&mut self, clip: &str, lookahead: usize) -> Vec<i64> {
        let lengths: Array1<i64> = self.0.by_name(&format!("{clip}/k{lookahead}/cache_len.npy")).unwrap();
        lengths.to_vec()
    }
}

/// NeMo's texts by model, clip, lookahead and decoder (`rnnt`, `ctc`).
pub struct Texts(serde_json::Value);

impl Texts {
    pub fn open() -> Self {
        Self(serde_json::from_reader(File::open(data("texts.json")).unwrap()).unwrap())
    }

    pub fn get(&self, model: &str, clip: &str, lookahead: usize, decoder: DecoderKind) -> &str {
        let decoder = if decoder == DecoderKind::Ctc { "ctc" } else { "rnnt" };
        self.0[model][clip][format!("k{lookahead}")][decoder].as_str().unwrap()
    }
}

/// Tokens and words of a stream.
#[derive(Debug, Default, PartialEq)]
pub struct Transcript {
    pub tokens: Vec<Token>,
    pub words: Vec<Word>,
}

impl Transcript {
    /// Collects pending events.
    pub fn collect(&mut self, stream: &mut Stream) {
        while let Some(event) = stream.next_event() {
            match event {
                Event::Token(token) => self.tokens.push(token),
                Event::Word(word) => self.words.push(word),
                _ => {}
            }
        }
    }

    /// Feeds `samples` in blocks of `cut` samples and ends the stream.
    pub fn of(stream: &mut Stream, samples: &[f32], cut: usize) -> Self {
        let mut transcript = Self::default();
        for block in samples.chunks(cut) {
            stream.accept(block).unwrap();
            transcript.collect(stream);
        }
        stream.finish(0).unwrap();
        transcript.collect(stream);
        transcript
    }

    /// Ids and frames of the tokens.
    pub fn token_frames(&self) -> Vec<(usize, u64)> {
        self.tokens.iter().map(|token| (token.id, token.frame)).collect()
    }

    pub fn text(&self) -> String {
        let words: Vec<&str> = self.words.iter().map(|word| word.text.as_str()).collect();
        words.join(" ")
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The same weights in every layout: they load, and the text does not depend on the layout.

use crate::common::{Goldens, LOOKAHEADS, Transcript, clip, data, options};
use nemostt::{DecoderKind, GraphOptimization, Options, Precision, Recognizer};

const CLIP: &str = "u2_digits";

/// Layouts whose graphs serve every lookahead with NeMo's own windows.
const EXACT: [(&str, &str); 4] = [
    ("nemo", "NeMo"),
    ("external", "NeMo"),
    ("sherpa", "sherpa-onnx"),
    ("parakeet_rs", "parakeet-rs"),
];

fn load(layout: &str, lookahead: usize, decoder: DecoderKind) -> Recognizer {
    let path = data("layouts").join(layout);
    Recognizer::load(&path, &options(lookahead, decoder)).unwrap_or_else(|error| panic!("{layout}: {error}"))
}

/// The transcript and the concatenated valid frames of the encoder.
fn transcribe(recognizer: &Recognizer) -> (Transcript, Vec<f32>) {
    let chunk = recognizer.config().lookahead + 1;
    let mut stream = recognizer.stream().unwrap();
    let mut frames = Vec::new();
    let mut observe = |window: &nemostt::chunker::Window<'_>, outputs: &[f32]| {
        for frame in 0..window.outputs {
            frames.extend(outputs.chunks_exact(chunk).map(|row| row[frame]));
        }
    };
    stream.accept_observed(&clip(CLIP), &mut observe).unwrap();
    stream.finish_observed(0, &mut observe).unwrap();
    let mut transcript = Transcript::default();
    transcript.collect(&mut stream);
    (transcript, frames)
}

fn worst(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// NeMo's encoder frames, concatenated.
fn nemo_frames(lookahead: usize) -> Vec<f32> {
    let encoded = Goldens::open("layouts/goldens").encoder(CLIP, lookahead);
    encoded.t().iter().copied().collect()
}

#[test]
fn every_layout_matches_nemo() {
    let mut goldens = Goldens::open("layouts/goldens");
    for lookahead in LOOKAHEADS {
        let nemo = nemo_frames(lookahead);
        for (layout, name) in EXACT {
            let recognizer = load(layout, lookahead, DecoderKind::Rnnt);
            assert_eq!(recognizer.config().contract.layout, name);
            let (transcript, frames) = transcribe(&recognizer);
            let worst = worst(&frames, &nemo);
            assert!(worst < 1e-5, "{layout}, lookahead {lookahead}: encoder off by {worst}");
            assert_eq!(
                transcript.token_frames(),
                goldens.tokens(CLIP, lookahead),
                "{layout}, lookahead {lookahead}"
            );
            assert!(transcript.token_frames().len() > 20);
        }
    }
}

#[test]
fn sherpa_ctc_layout_matches_nemo() {
    let mut goldens = Goldens::open("layouts/goldens");
    for lookahead in LOOKAHEADS {
        let recognizer = load("sherpa_ctc", lookahead, DecoderKind::Auto);
        assert_eq!(recognizer.config().decoder, DecoderKind::Ctc);
        assert_eq!(recognizer.config().contract.layout, "sherpa-onnx");
        let transcript = Transcript::of(&mut recognizer.stream().unwrap(), &clip(CLIP), 1_600);
        assert_eq!(
            transcript.token_frames(),
            goldens.ctc(CLIP, lookahead),
            "lookahead {lookahead}"
        );
    }
}

#[test]
fn fp16_gives_the_same_tokens() {
    let mut goldens = Goldens::open("layouts/goldens");
    for layout in ["fp16", "fp16_io32"] {
        for lookahead in [1, 13] {
            let recognizer = load(layout, lookahead, DecoderKind::Rnnt);
            assert_eq!(recognizer.config().precision, Precision::Fp16);
            let (transcript, frames) = transcribe(&recognizer);
            let worst = worst(&frames, &nemo_frames(lookahead));
            assert!((1e-5..1e-2).contains(&worst), "{layout}: encoder off by {worst}");
            assert_eq!(
                transcript.token_frames(),
                goldens.tokens(CLIP, lookahead),
                "{layout}, lookahead {lookahead}"
            );
        }
    }
}

#[test]
fn int8_encoder_is_close() {
    for lookahead in [1, 13] {
        let recognizer = load("sherpa_int8", lookahead, DecoderKind::Rnnt);
        assert_eq!(recognizer.config().precision, Precision::Int8);
        let (transcript, frames) = transcribe(&recognizer);
        // With random weights, token scores are close to each other, so the frames show how far off the encoder is.
        let worst = worst(&frames, &nemo_frames(lookahead));
        assert!((1e-4..0.2).contains(&worst), "encoder off by {worst}");
        assert!(transcript.token_frames().len() > 10, "{:?}", transcript.token_frames());
    }
}

#[test]
fn fixed_shape_exports_match_nemo_at_their_lookahead() {
    let mut goldens = Goldens::open("layouts/goldens");
    for (layout, lookahead) in [("genai", 6), ("eou6", 1)] {
        for graph_optimization in [GraphOptimization::All, GraphOptimization::None] {
            let options = Options {
                graph_optimization,
                threads: 1,
                ..Default::default()
            };
            let recognizer = Recognizer::load(data("layouts").join(layout), &options)
                .unwrap_or_else(|error| panic!("{layout}: {error}"));
            let config = recognizer.config();
            assert_eq!(config.lookahead, lookahead);
            assert_eq!(config.contract.fixed_frames, Some(17 + 8 * lookahead));
            let (transcript, frames) = transcribe(&recognizer);
            let worst = worst(&frames, &nemo_frames(lookahead));
            assert!(worst < 1e-5, "{layout}: encoder off by {worst}");
            assert_eq!(transcript.token_frames(), goldens.tokens(CLIP, lookahead), "{layout}");
        }
        for wrong in [0, 80, 1040] {
            let options = Options {
                lookahead: Some(wrong),
                ..Default::default()
            };
            if wrong as usize != lookahead * 80 {
                let error = Recognizer::load(data("layouts").join(layout), &options)
                    .unwrap_err()
                    .to_string();
                assert!(error.contains(&format!("it allows {} ms", lookahead * 80)), "{error}");
            }
        }
    }
}

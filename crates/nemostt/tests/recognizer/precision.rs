// SPDX-License-Identifier: MIT OR Apache-2.0

//! The int8 encoder compared with the same encoder in float32.

use crate::{
    common::{CLIPS, LOOKAHEADS, Transcript, clip, data, model_path, options},
    log,
};
use nemostt::{DecoderKind, GraphOptimization, Options, Precision, PrecisionChoice, Recognizer};

fn load(model: &str, lookahead: usize, decoder: DecoderKind, precision: PrecisionChoice) -> Recognizer {
    let options = Options {
        precision,
        ..options(lookahead, decoder)
    };
    Recognizer::load(model_path(model), &options).unwrap()
}

/// The encoder's valid frames of a clip.
fn outputs(recognizer: &Recognizer, name: &str) -> Vec<f32> {
    let chunk = recognizer.config().lookahead + 1;
    let mut all = Vec::new();
    let mut keep = |window: &nemostt::chunker::Window<'_>, output: &[f32]| {
        let width = output.len() / chunk;
        all.extend((0..window.outputs).flat_map(|t| (0..width).map(move |d| output[d * chunk + t])));
    };
    let mut stream = recognizer.stream().unwrap();
    stream.accept_observed(&clip(name), &mut keep).unwrap();
    stream.finish_observed(0, &mut keep).unwrap();
    all
}

/// Edit distance of two token sequences.
fn distance(a: &[usize], b: &[usize]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, right) in b.iter().enumerate() {
            let changed = corner + usize::from(left != right);
            corner = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

/// Signal-to-noise ratio in dB.
fn decibels(signal: f64, noise: f64) -> f64 {
    10.0 * (signal / noise).log10()
}

#[test]
fn int8_encoder_frames_are_close() {
    for lookahead in LOOKAHEADS {
        let [exact, int8] =
            [PrecisionChoice::Fp32, PrecisionChoice::Int8].map(|p| load("trained", lookahead, DecoderKind::Rnnt, p));
        assert_eq!(exact.config().precision, Precision::Fp32);
        assert_eq!(int8.config().precision, Precision::Int8);
        let (mut signal, mut noise) = (0.0, 0.0);
        for name in CLIPS {
            let (exact, int8) = (outputs(&exact, name), outputs(&int8, name));
            assert_eq!(exact.len(), int8.len());
            for (x, y) in exact.into_iter().zip(int8) {
                signal += f64::from(x).powi(2);
                noise += f64::from(x - y).powi(2);
            }
        }
        let ratio = decibels(signal, noise);
        println!("lookahead {lookahead}: signal to noise {ratio:.1} dB");
        // A higher ratio means that the encoder was not quantized.
        assert!((25.0..70.0).contains(&ratio), "lookahead {lookahead}: {ratio} dB");
    }
}

#[test]
fn int8_tokens_are_almost_the_same() {
    let mut all = (0, 0);
    for decoder in [DecoderKind::Rnnt, DecoderKind::Ctc] {
        for lookahead in LOOKAHEADS {
            let transcript = [PrecisionChoice::Fp32, PrecisionChoice::Int8].map(|precision| {
                let recognizer = load("trained", lookahead, decoder, precision);
                let mut stream = recognizer.stream().unwrap();
                CLIPS.map(|name| {
                    let transcript = Transcript::of(&mut stream, &clip(name), 1024);
                    stream.reset();
                    let tokens: Vec<usize> = transcript.token_frames().into_iter().map(|(id, _)| id).collect();
                    (tokens, transcript.text())
                })
            });
            let (mut errors, mut tokens) = (0, 0);
            for ((exact, text), (int8, other)) in transcript[0].iter().zip(&transcript[1]) {
                errors += distance(exact, int8);
                tokens += exact.len();
                if text != other {
                    println!("{decoder:?}, lookahead {lookahead}: {text:?} became {other:?}");
                }
            }
            println!("{decoder:?}, lookahead {lookahead}: {errors} of {tokens} tokens differ");
            assert!(tokens > 100);
            // One phrase with almost equal scores may change: 6 tokens.
            assert!(
                errors * 20 <= tokens,
                "{decoder:?}, lookahead {lookahead}: {errors} of {tokens}"
            );
            all = (all.0 + errors, all.1 + tokens);
        }
    }
    println!("{} of {} tokens differ in total", all.0, all.1);
    assert!(all.0 * 50 <= all.1, "{} of {}", all.0, all.1);
}

#[test]
fn int8_is_reproducible() {
    let name = "u2_digits";
    for model in ["trained", "tiny_random"] {
        let first = load(model, 1, DecoderKind::Rnnt, PrecisionChoice::Int8);
        let expected = outputs(&first, name);
        assert_eq!(outputs(&first, name), expected);
        let second = load(model, 1, DecoderKind::Rnnt, PrecisionChoice::Int8);
        assert_eq!(outputs(&second, name), expected);
    }
}

#[test]
fn auto_and_fp32_are_identical_for_float32_models() {
    let [auto, fp32] = [PrecisionChoice::Auto, PrecisionChoice::Fp32].map(|precision| {
        let recognizer = load("trained", 1, DecoderKind::Rnnt, precision);
        outputs(&recognizer, "u1_command")
    });
    assert_eq!(auto, fp32);
}

#[test]
fn unoptimized_export_is_quantized() {
    let options = Options {
        precision: PrecisionChoice::Int8,
        graph_optimization: GraphOptimization::None,
        ..options(1, DecoderKind::Rnnt)
    };
    let recognizer = Recognizer::load(model_path("trained"), &options).unwrap();
    assert_eq!(recognizer.config().precision, Precision::Int8);
    let exact = outputs(
        &load("trained", 1, DecoderKind::Rnnt, PrecisionChoice::Fp32),
        "u2_digits",
    );
    let (mut signal, mut noise) = (0.0, 0.0);
    for (x, y) in exact.into_iter().zip(outputs(&recognizer, "u2_digits")) {
        signal += f64::from(x).powi(2);
        noise += f64::from(x - y).powi(2);
    }
    assert!((25.0..70.0).contains(&decibels(signal, noise)));
}

#[test]
fn non_float32_models_are_not_quantized() {
    log::start();
    for (layout, held) in [("sherpa_int8", Precision::Int8), ("fp16", Precision::Fp16)] {
        let options = |precision| Options {
            precision,
            ..options(1, DecoderKind::Rnnt)
        };
        let [auto, int8] = [PrecisionChoice::Auto, PrecisionChoice::Int8].map(|precision| {
            let recognizer = Recognizer::load(data("layouts").join(layout), &options(precision)).unwrap();
            assert_eq!(recognizer.config().precision, held);
            outputs(&recognizer, "u1_command")
        });
        assert_eq!(auto, int8, "{layout}");
        let log = log::lines();
        let wanted = format!("is not quantized to int8: its weights are {} already", held.name());
        let noted = log.iter().any(|line| line.contains(layout) && line.contains(&wanted));
        assert!(noted, "{log:?}");
    }
}

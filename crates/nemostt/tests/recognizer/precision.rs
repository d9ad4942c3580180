// SPDX-License-Identifier: MIT OR Apache-2.0

//! The encoder in 8 bits against the same encoder in float32.

use crate::{
    common::{CLIPS, Heard, LOOKAHEADS, clip, data, model_path, options},
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

/// What the encoder gives for the valid frames of a clip.
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

/// Labels that must be put in, taken out or changed to make one of the other.
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

/// Power of the signal over the power of the noise, in dB.
fn decibels(signal: f64, noise: f64) -> f64 {
    10.0 * (signal / noise).log10()
}

#[test]
fn encoder_frames_stay_close() {
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
        // Above: something is exact that should not be.
        assert!((25.0..70.0).contains(&ratio), "lookahead {lookahead}: {ratio} dB");
    }
}

#[test]
fn labels_are_almost_the_same() {
    let mut all = (0, 0);
    for decoder in [DecoderKind::Rnnt, DecoderKind::Ctc] {
        for lookahead in LOOKAHEADS {
            let heard = [PrecisionChoice::Fp32, PrecisionChoice::Int8].map(|precision| {
                let recognizer = load("trained", lookahead, decoder, precision);
                let mut stream = recognizer.stream().unwrap();
                CLIPS.map(|name| {
                    let heard = Heard::all(&mut stream, &clip(name), 1024);
                    stream.reset();
                    let labels: Vec<usize> = heard.labels().into_iter().map(|(id, _)| id).collect();
                    (labels, heard.text())
                })
            });
            let (mut errors, mut labels) = (0, 0);
            for ((exact, text), (int8, other)) in heard[0].iter().zip(&heard[1]) {
                errors += distance(exact, int8);
                labels += exact.len();
                if text != other {
                    println!("{decoder:?}, lookahead {lookahead}: {text:?} became {other:?}");
                }
            }
            println!("{decoder:?}, lookahead {lookahead}: {errors} of {labels} labels differ");
            assert!(labels > 100);
            // A single phrase that was almost a draw may turn: 6 labels.
            assert!(
                errors * 20 <= labels,
                "{decoder:?}, lookahead {lookahead}: {errors} of {labels}"
            );
            all = (all.0 + errors, all.1 + labels);
        }
    }
    println!("{} of {} labels differ in all", all.0, all.1);
    assert!(all.0 * 50 <= all.1, "{} of {}", all.0, all.1);
}

#[test]
fn every_stream_hears_the_same() {
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
fn auto_and_fp32_change_nothing() {
    let [auto, fp32] = [PrecisionChoice::Auto, PrecisionChoice::Fp32].map(|precision| {
        let recognizer = load("trained", 1, DecoderKind::Rnnt, precision);
        outputs(&recognizer, "u1_command")
    });
    assert_eq!(auto, fp32);
}

#[test]
fn an_export_as_it_is_is_quantized_too() {
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
fn what_is_not_float32_is_left_with_a_note() {
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
        let wanted = format!("is not made int8: it holds {} already", held.name());
        let noted = log.iter().any(|line| line.contains(layout) && line.contains(&wanted));
        assert!(noted, "{log:?}");
    }
}

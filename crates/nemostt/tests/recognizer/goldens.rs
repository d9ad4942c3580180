// SPDX-License-Identifier: MIT OR Apache-2.0

//! Encoder outputs, tokens and text compared with NeMo's, for every clip, lookahead, model and decoder.
//!
//! The reference is NeMo's *offline* encoder with the same context mask, for every lookahead including 0. NeMo's
//! streaming inference equals it, except for the last frames, which it discards, and for lookahead 0, where its second
//! window is padded with zero frames that the offline encoder does not see.

use crate::common::{CLIPS, Goldens, LOOKAHEADS, MODELS, Texts, Transcript, clip, recognizer};
use nemostt::{DecoderKind, Recognizer};

struct EncoderRun {
    /// Encoder frames, each of the encoder's width.
    frames: Vec<Vec<f32>>,
    cache_len: Vec<i64>,
}

fn encode(recognizer: &Recognizer, samples: &[f32]) -> EncoderRun {
    let mut stream = recognizer.stream().unwrap();
    let chunk = recognizer.config().lookahead + 1;
    let width = recognizer.config().streaming.d_model;
    let mut frames = Vec::new();
    let mut cache_len = Vec::new();
    let mut keep = |window: &nemostt::chunker::Window<'_>, output: &[f32]| {
        assert_eq!(output.len(), width * chunk);
        for t in 0..window.outputs {
            frames.push((0..width).map(|d| output[d * chunk + t]).collect());
        }
    };
    // One mel frame at a time, to see the cache after every window.
    for block in samples.chunks(160) {
        stream.accept_observed(block, &mut keep).unwrap();
        cache_len.push(stream.cache_len());
    }
    stream.finish_observed(0, &mut keep).unwrap();
    cache_len.dedup();
    EncoderRun { frames, cache_len }
}

fn assert_encoder_matches(model: &str) {
    assert_encoder_matches_for(model, &mut Goldens::open(model), &LOOKAHEADS, &CLIPS);
}

fn assert_encoder_matches_for(model: &str, goldens: &mut Goldens, lookaheads: &[usize], clips: &[&str]) {
    for &lookahead in lookaheads {
        let recognizer = recognizer(model, lookahead, DecoderKind::Rnnt);
        check_encoder(&recognizer, model, goldens, lookahead, clips);
    }
}

/// Compares the encoder of `recognizer`, of model `model`, with NeMo's.
pub(crate) fn check_encoder(
    recognizer: &Recognizer,
    model: &str,
    goldens: &mut Goldens,
    lookahead: usize,
    clips: &[&str],
) {
    let mut worst: f32 = 0.0;
    for &name in clips {
        let expected = goldens.encoder(name, lookahead);
        let run = encode(recognizer, &clip(name));
        assert_eq!(
            run.frames.len(),
            expected.ncols(),
            "{model}, {name}, lookahead {lookahead}"
        );
        for (t, frame) in run.frames.iter().enumerate() {
            for (d, value) in frame.iter().enumerate() {
                let difference = (value - expected[[d, t]]).abs();
                assert!(
                    difference < 1e-4,
                    "{model}, {name}, lookahead {lookahead}: frame {t}, dimension {d}: {value} and {}",
                    expected[[d, t]]
                );
                worst = worst.max(difference);
            }
        }
    }
    println!("{model}, lookahead {lookahead}: largest difference from NeMo's encoder {worst:e}");
}

#[test]
fn encoder_matches_nemo_with_random_weights() {
    assert_encoder_matches("tiny_random");
}

#[test]
fn encoder_matches_nemo_with_demo_model() {
    assert_encoder_matches("trained");
}

#[test]
fn cache_lengths_match_nemo() {
    for model in MODELS {
        let mut goldens = Goldens::open(model);
        for lookahead in LOOKAHEADS {
            let recognizer = recognizer(model, lookahead, DecoderKind::Rnnt);
            let name = "u2_digits";
            let mut expected = goldens.cache_len(name, lookahead);
            // NeMo does not pad its last window, so its last length differs; the caches are not read after it.
            expected.pop();
            expected.dedup();
            let mut found = encode(&recognizer, &clip(name)).cache_len;
            found.retain(|&len| len > 0);
            found.truncate(expected.len());
            assert_eq!(found, expected, "{model}, lookahead {lookahead}");
        }
    }
}

fn assert_text_matches(model: &str, decoder: DecoderKind) {
    let mut goldens = Goldens::open(model);
    for lookahead in LOOKAHEADS {
        check_text(
            &recognizer(model, lookahead, decoder),
            model,
            &mut goldens,
            (lookahead, decoder),
        );
    }
}

/// Compares tokens and text of `recognizer`, of model `model`, with NeMo's.
pub(crate) fn check_text(
    recognizer: &Recognizer,
    model: &str,
    goldens: &mut Goldens,
    (lookahead, decoder): (usize, DecoderKind),
) {
    let texts = Texts::open();
    let mut stream = recognizer.stream().unwrap();
    for name in CLIPS {
        let transcript = Transcript::of(&mut stream, &clip(name), 1024);
        stream.reset();
        let expected = match decoder {
            DecoderKind::Ctc => goldens.ctc(name, lookahead),
            _ => goldens.tokens(name, lookahead),
        };
        let case = format!("{model}, {decoder:?}, {name}, lookahead {lookahead}");
        assert_eq!(transcript.token_frames(), expected, "{case}");
        assert_eq!(transcript.text(), texts.get(model, name, lookahead, decoder), "{case}");
        assert!(transcript.tokens.iter().all(|token| token.log_prob <= 0.0), "{case}");
    }
}

#[test]
fn rnnt_matches_nemo_with_random_weights() {
    assert_text_matches("tiny_random", DecoderKind::Rnnt);
}

#[test]
fn rnnt_matches_nemo_with_demo_model() {
    assert_text_matches("trained", DecoderKind::Rnnt);
}

#[test]
fn ctc_matches_nemo_with_random_weights() {
    assert_text_matches("tiny_random", DecoderKind::Ctc);
}

#[test]
fn ctc_matches_nemo_with_demo_model() {
    assert_text_matches("trained", DecoderKind::Ctc);
}

#[test]
fn nemotron_shaped_model_matches_nemo() {
    // 128 mels, 56 frames of left context, which also allows a lookahead of 240 ms, and two LSTM layers.
    let (model, clip_name) = ("nemotron_shape", "u2_digits");
    let lookaheads = [0, 1, 3, 6, 13];
    let mut goldens = Goldens::open("nemotron_shape/goldens");
    assert_encoder_matches_for(model, &mut goldens, &lookaheads, &[clip_name]);
    for lookahead in lookaheads {
        let recognizer = recognizer(model, lookahead, DecoderKind::Rnnt);
        assert_eq!(recognizer.config().front_end.mels, 128);
        let transcript = Transcript::of(&mut recognizer.stream().unwrap(), &clip(clip_name), 1024);
        let expected = goldens.tokens(clip_name, lookahead);
        assert!(expected.len() > 50);
        assert_eq!(transcript.token_frames(), expected, "lookahead {lookahead}");
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Models of the shape of each kind of published checkpoint, verified against NeMo's output.

use std::path::PathBuf;

use crate::common::{Goldens, Transcript, clip, data, options};
use nemostt::{DecoderKind, EndReason, Error, Event, Recognizer, Stream};

const CLIPS: [&str; 2] = ["u1_command", "u2_digits"];

fn path(kind: &str) -> PathBuf {
    data("kinds").join(kind)
}

fn load(kind: &str, lookahead: usize) -> Recognizer {
    Recognizer::load(path(kind), &options(lookahead, DecoderKind::Rnnt))
        .unwrap_or_else(|error| panic!("{kind}: {error}"))
}

/// The transcript, and the largest difference of the encoder's valid frames from NeMo's.
pub(crate) fn transcribe(stream: &mut Stream, clip_name: &str, nemo: &ndarray::Array2<f32>) -> (Transcript, f32) {
    let width = nemo.nrows();
    let mut frame = 0;
    let mut worst = 0.0_f32;
    let mut observe = |window: &nemostt::chunker::Window<'_>, outputs: &[f32]| {
        let chunk = outputs.len() / width;
        for t in 0..window.outputs {
            for row in 0..width {
                worst = worst.max((outputs[row * chunk + t] - nemo[[row, frame + t]]).abs());
            }
        }
        frame += window.outputs;
    };
    stream.accept_observed(&clip(clip_name), &mut observe).unwrap();
    stream.finish_observed(0, &mut observe).unwrap();
    assert_eq!(frame, nemo.ncols());
    let mut transcript = Transcript::default();
    transcript.collect(stream);
    (transcript, worst)
}

#[test]
fn every_checkpoint_kind_matches_nemo() {
    for (kind, lookaheads, mels) in [
        ("eou", &[1][..], 128),
        ("single_80ms_pc", &[1], 80),
        ("nemotron_en", &[0, 1, 6, 13], 128),
    ] {
        let mut goldens = Goldens::open(&format!("kinds/{kind}/goldens"));
        for &lookahead in lookaheads {
            let recognizer = load(kind, lookahead);
            assert_eq!(recognizer.config().front_end.mels, mels);
            for name in CLIPS {
                let encoded = goldens.encoder(name, lookahead);
                let (transcript, worst) = transcribe(&mut recognizer.stream().unwrap(), name, &encoded);
                assert!(
                    worst < 1e-5,
                    "{kind}, {name}, lookahead {lookahead}: encoder off by {worst}"
                );
                assert_eq!(
                    transcript.token_frames(),
                    goldens.tokens(name, lookahead),
                    "{kind}, {name}, lookahead {lookahead}"
                );
                assert!(!transcript.token_frames().is_empty());
            }
        }
    }
}

#[test]
fn multilingual_models_follow_the_language() {
    let mut goldens = Goldens::open("kinds/nemotron_multi/goldens");
    for lookahead in [0, 1, 3, 6, 13] {
        let recognizer = load("nemotron_multi", lookahead);
        assert_eq!(recognizer.config().contract.layout, "sherpa-onnx");
        for name in CLIPS {
            for (language, prompt) in [("en-US", 0), ("de-DE", 9), ("auto", 101)] {
                let key = format!("{name}/k{lookahead}/p{prompt}");
                let mut stream = recognizer.stream().unwrap();
                stream.set_language(language).unwrap();
                let (transcript, worst) = transcribe(&mut stream, name, &goldens.encoder_at(&key));
                assert!(worst < 1e-5, "{key}: encoder off by {worst}");
                assert_eq!(transcript.token_frames(), goldens.tokens_at(&key), "{key}");
            }
            // By default it detects the language.
            let mut stream = recognizer.stream().unwrap();
            let transcript = Transcript::of(&mut stream, &clip(name), 1_000);
            assert_eq!(
                transcript.token_frames(),
                goldens.tokens_at(&format!("{name}/k{lookahead}/p101"))
            );
        }
    }
}

#[test]
fn unknown_language_is_rejected_and_previous_one_kept() {
    let mut goldens = Goldens::open("kinds/nemotron_multi/goldens");
    let mut stream = load("nemotron_multi", 13).stream().unwrap();
    stream.set_language("de").unwrap();
    let error = stream.set_language("tlh").unwrap_err();
    assert!(matches!(&error, Error::Language { requested, .. } if requested == "tlh"));
    assert!(error.to_string().contains("de-DE"), "{error}");
    let transcript = Transcript::of(&mut stream, &clip("u2_digits"), 1_000);
    assert_eq!(transcript.token_frames(), goldens.tokens_at("u2_digits/k13/p9"));
}

#[test]
fn language_tags_are_events_and_not_text() {
    let mut stream = load("nemotron_multi", 13).stream().unwrap();
    stream.set_language("auto").unwrap();
    stream.accept(&clip("u2_digits")).unwrap();
    stream.finish(0).unwrap();
    let (mut languages, mut last) = (Vec::new(), None);
    while let Some(event) = stream.next_event() {
        match event {
            Event::Language(language) => languages.push(language),
            Event::Word(word) => assert!(!word.text.contains(['<', '>']), "{word:?}"),
            Event::Utterance(utterance) => last = utterance.language,
            _ => {}
        }
    }
    assert!(!languages.is_empty());
    assert_eq!(last.as_ref(), languages.last());
}

/// parakeet-rs has the languages in its source code, so its files do not name them.
#[test]
fn multilingual_model_needs_a_prompt_dictionary() {
    let kind = "nemotron_multi_parakeet_rs";
    let error = Recognizer::load(path(kind), &options(13, DecoderKind::Rnnt))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("nemostt.json") && error.contains("dictionary"),
        "{error}"
    );

    let directory = tempfile::tempdir().unwrap();
    for file in [
        "encoder.onnx",
        "encoder.onnx.data",
        "decoder_joint.onnx",
        "tokenizer.model",
    ] {
        std::fs::copy(path(kind).join(file), directory.path().join(file)).unwrap();
    }
    let sidecar = r#"{"prompt": {"dictionary": {"en-US": 0, "de-DE": 9}, "auto": 101}}"#;
    std::fs::write(directory.path().join("nemostt.json"), sidecar).unwrap();
    let mut goldens = Goldens::open("kinds/nemotron_multi/goldens");
    let recognizer = Recognizer::load(directory.path(), &options(6, DecoderKind::Rnnt)).unwrap();
    let mut stream = recognizer.stream().unwrap();
    stream.set_language("de-DE").unwrap();
    let transcript = Transcript::of(&mut stream, &clip("u2_digits"), 5_000);
    assert_eq!(transcript.token_frames(), goldens.tokens_at("u2_digits/k6/p9"));
}

#[test]
fn turn_ends_are_events_and_not_text() {
    let recognizer = load("eou", 1);
    let mut goldens = Goldens::open("kinds/eou/goldens");
    let marks: Vec<EndReason> = goldens
        .tokens("u2_digits", 1)
        .iter()
        .filter_map(|(id, _)| match id {
            126 => Some(EndReason::EndOfUtterance),
            127 => Some(EndReason::EndOfBackchannel),
            _ => None,
        })
        .collect();
    assert!(marks.len() > 1);

    let mut stream = recognizer.stream().unwrap();
    stream.accept(&clip("u2_digits")).unwrap();
    stream.finish(0).unwrap();
    let (mut turns, mut endings) = (Vec::new(), Vec::new());
    while let Some(event) = stream.next_event() {
        match event {
            Event::Turn(ending) => turns.push(ending),
            Event::Utterance(utterance) => endings.push(utterance.ending.unwrap()),
            Event::Word(word) => assert!(!word.text.contains("EO"), "{word:?}"),
            _ => {}
        }
    }
    assert_eq!(turns, marks);
    assert!(
        endings
            .iter()
            .all(|ending| *ending == EndReason::EndOfStream || marks.contains(ending))
    );
    assert!(endings.iter().any(|ending| marks.contains(ending)));
}

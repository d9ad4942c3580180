// SPDX-License-Identifier: MIT OR Apache-2.0

//! The text at the source pad and its times, compared with NeMo.

use crate::{
    MS,
    common::{CLIPS, Goldens, LOOKAHEADS, Texts, clip_s16, model_path},
    harness::{Harness, text, time_of},
    nemo_text,
};
use nemostt::DecoderKind;

/// Every clip gives NeMo's text at every lookahead, however the audio is cut into buffers.
fn assert_text_matches(model: &str, decoder: DecoderKind) {
    let texts = Texts::open();
    let nick = if decoder == DecoderKind::Ctc { "ctc" } else { "rnnt" };
    for lookahead in LOOKAHEADS {
        // Nonsense text has pauses within words, so words must wait for the next one.
        let harness = Harness::play(&format!(
            "model-path={} decoder={nick} lookahead={} word-hold=0 endpoint-silence=0",
            model_path(model).display(),
            lookahead * 80
        ));
        for cut in [1, 160, 1_000, 1_024, 48_000] {
            for clip in CLIPS {
                harness.speak(&clip_s16(clip), cut);
                harness.eos();
                let expected = texts.get(model, clip, lookahead, decoder);
                assert_eq!(harness.text(), expected, "{model}, {clip}, {lookahead}, {cut}");
                harness.flush();
            }
        }
    }
}

#[test]
fn rnnt_text_matches_nemo_with_demo_model() {
    assert_text_matches("trained", DecoderKind::Rnnt);
}

#[test]
fn ctc_text_matches_nemo_with_demo_model() {
    assert_text_matches("trained", DecoderKind::Ctc);
}

#[test]
fn rnnt_text_matches_nemo_with_random_weights() {
    assert_text_matches("tiny_random", DecoderKind::Rnnt);
}

#[test]
fn ctc_text_matches_nemo_with_random_weights() {
    assert_text_matches("tiny_random", DecoderKind::Ctc);
}

#[test]
fn text_matches_nemo_with_default_settings() {
    for lookahead in LOOKAHEADS {
        let harness = Harness::play(&format!("lookahead={}", lookahead * 80));
        for clip in CLIPS {
            harness.speak(&clip_s16(clip), 1_024);
            harness.eos();
            assert_eq!(harness.text(), nemo_text(clip, lookahead), "{clip}, {lookahead}");
            harness.flush();
        }
    }
}

#[test]
fn buffers_of_80_ms_cause_no_shape_error() {
    // The bug that started this project: chunks cut one by one, 9 mel frames where the graph needs 25.
    for lookahead in LOOKAHEADS {
        let harness = Harness::play(&format!("lookahead={}", lookahead * 80));
        harness.speak(&clip_s16("u2_digits"), 1_280);
        harness.eos();
        assert_eq!(harness.text(), nemo_text("u2_digits", lookahead));
    }
}

#[test]
fn word_times_are_within_a_frame_of_nemo() {
    let mut goldens = Goldens::open("trained");
    let tokens = std::fs::read_to_string(model_path("trained").join("tokens.txt")).unwrap();
    let begins: Vec<bool> = tokens.lines().map(|line| line.starts_with('\u{2581}')).collect();
    for clip in ["u1_command", "u2_digits", "u5_eight_sentences"] {
        for lookahead in LOOKAHEADS {
            // NeMo's words, from the frame of the first token to the end of the frame of the last one.
            let mut expected: Vec<(u64, u64)> = Vec::new();
            for (id, frame) in goldens.tokens(clip, lookahead) {
                match expected.last_mut() {
                    Some(word) if !begins[id] => word.1 = frame + 1,
                    _ => expected.push((frame, frame + 1)),
                }
            }
            let harness = Harness::play(&format!("lookahead={}", lookahead * 80));
            harness.speak(&clip_s16(clip), 4_096);
            harness.eos();
            let words = harness.words();
            assert_eq!(words.len(), expected.len());
            for (word, (start, end)) in words.iter().zip(expected) {
                let off = |time: gst::ClockTime, frame: u64| time.absdiff(frame * 80 * MS);
                assert!(off(word.pts, start) <= 80 * MS, "{word:?}, {start}");
                assert!(off(word.pts + word.duration, end) <= 80 * MS, "{word:?}, {end}");
            }
        }
    }
}

#[test]
fn empty_and_tiny_streams_end_without_words() {
    let harness = Harness::play("");
    harness.eos();
    assert_eq!(harness.text(), "");
    for samples in [1, 2, 159, 160, 200] {
        harness.flush();
        harness.speak(&vec![0; samples], 160);
        harness.eos();
        assert_eq!(harness.text(), "", "{samples} samples");
    }
}

#[test]
fn eos_padding_completes_a_cut_off_word() {
    // The clip ends in the middle of a word; with silence after it, the model decides which one.
    let samples = clip_s16("e6_odd");
    let with = |padding: u32| {
        let harness = Harness::play(&format!("lookahead=1040 eos-padding={padding}"));
        harness.speak(&samples, 1_024);
        harness.eos();
        let words = harness.words();
        let end = time_of(samples.len());
        assert!(words.iter().all(|word| word.pts + word.duration <= end), "{words:?}");
        text(&words)
    };
    assert_eq!(with(0), nemo_text("e6_odd", 13));
    // Padding does not lose words.
    assert!(with(1_120).starts_with(&nemo_text("e6_odd", 13)), "{}", with(1_120));
}

#[test]
fn flush_discards_audio_and_keeps_the_model() {
    let harness = Harness::play("lookahead=80");
    let samples = clip_s16("u1_command");
    harness.speak(&samples[..samples.len() / 2], 1_000);
    harness.flush();
    harness.take();
    harness.speak(&samples, 1_000);
    harness.eos();
    assert_eq!(harness.text(), nemo_text("u1_command", 1));
}

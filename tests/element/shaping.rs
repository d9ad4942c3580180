// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is done to words before they are output: the same in all modes, however the audio is cut.

use std::fs;

use gst::prelude::*;

use crate::{
    common::clip_s16,
    harness::{Harness, time_of},
    nemo_text,
};

/// The text of a clip, as it is written with `properties`, from buffers of `cut` samples.
fn shaped_in(clip: &str, properties: &str, cut: usize) -> String {
    let harness = Harness::play(&format!("lookahead=1040 {properties}"));
    harness.speak(&clip_s16(clip), cut);
    harness.eos();
    harness.text()
}

fn shaped(clip: &str, properties: &str) -> String {
    shaped_in(clip, properties, 1_600)
}

#[test]
fn numbers_are_written_in_digits() {
    let text = shaped("u3_long", "inverse-text-normalization=true");
    let expected = nemo_text("u3_long", 13).replace("twenty", "20");
    assert_eq!(text, expected);
    // Isolated numbers below ten stay words.
    assert!(shaped("u4_heldvoice", "inverse-text-normalization=true").ends_with("on friday"));
    // Other languages have other numbers.
    let german = shaped("u3_long", "inverse-text-normalization=true language-code=de");
    assert_eq!(german, nemo_text("u3_long", 13));
}

#[test]
fn text_is_the_same_in_all_modes_and_cuts() {
    let directory = tempfile::tempdir().unwrap();
    let replacements = directory.path().join("replacements.txt");
    let list =
        "# Rooms\nbedroom lamp => night light\n\\bthe (red|blue) (\\w+) => the $2, $1, \nplay the next song => ♪\n";
    fs::write(&replacements, list).unwrap();
    let profanity = directory.path().join("profanity.txt");
    fs::write(&profanity, "garage window\n[de]\ndoor\n").unwrap();
    let properties = format!(
        "inverse-text-normalization=true capitalize=sentence replacements-file={} profanity-file={}",
        replacements.display(),
        profanity.display()
    );
    let expected = "Turn off the night light 7 3 9 02 The bus, red, leaves on sunday at 10 ♪ in the office A woman with the coat, \
                    blue, sings near the door Lock the ****** ****** Move left four steps Call 2 5 8 on wednesday";
    for cut in [160, 1_001, 48_000] {
        let words = shaped_in("u5_eight_sentences", &properties, cut);
        assert_eq!(words.to_lowercase(), expected.to_lowercase(), "{cut}");
        let utterances = shaped_in("u5_eight_sentences", &format!("{properties} output=utterances"), cut);
        assert_eq!(utterances, words, "{cut}");
        let cues = shaped_in("u5_eight_sentences", &format!("{properties} output=cues"), cut);
        assert_eq!(cues.replace('\n', " "), words, "{cut}");
    }
}

#[test]
fn words_of_low_confidence_are_not_shown() {
    let confidences = |properties: &str| {
        let harness = Harness::play(&format!("lookahead=80 {properties}"));
        harness.speak(&clip_s16("u5_eight_sentences"), 1_600);
        harness.eos();
        let messages = harness.word_messages();
        let words = messages.iter().map(|message| {
            let text = message.get::<String>("text").unwrap();
            (text, message.get::<f64>("confidence").unwrap())
        });
        words.collect::<Vec<_>>()
    };
    let all = confidences("");
    let limit = all.iter().map(|(_, confidence)| *confidence).fold(1.0, f64::min) + 1e-6;
    let sure: Vec<_> = all
        .iter()
        .filter(|(_, confidence)| *confidence >= limit)
        .cloned()
        .collect();
    assert_eq!(sure.len() + 1, all.len());
    assert_eq!(
        confidences(&format!("min-confidence={limit} low-confidence=drop")),
        sure
    );
    let masked = confidences(&format!("min-confidence={limit}"));
    assert_eq!(masked.len(), all.len());
    assert_eq!(masked.iter().filter(|(text, _)| text == "[…]").count(), 1);
    // NeMo's measures are others.
    let nemo = confidences("confidence-method=entropy-tsallis-exp confidence-aggregation=min");
    assert!(
        nemo.iter().zip(&all).any(|(nemo, own)| (nemo.1 - own.1).abs() > 0.1),
        "{nemo:?}"
    );
    assert!(nemo.iter().all(|(_, confidence)| (0.0..=1.0).contains(confidence)));
}

#[test]
fn files_are_read_when_they_are_set_and_wrong_ones_are_a_warning() {
    let samples = clip_s16("u5_eight_sentences");
    let harness = Harness::play("lookahead=80");
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str, contents: &str| {
        let path = directory.path().join(name);
        fs::write(&path, contents).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = path("good.txt", "lamp => light\n");
    let bad = path("bad.txt", "# Fine\nlamp\n");
    let mut at = 0;
    for (name, value, warning) in [
        ("replacements-file", good.as_str(), None),
        (
            "replacements-file",
            &bad,
            Some("bad.txt, line 2: \"lamp\" is not a replacement"),
        ),
        (
            "profanity-file",
            "/no/such/list",
            Some("profanity-file: cannot read /no/such/list"),
        ),
        ("replacements-file", &good, None),
        ("profanity-file", "", None),
        ("capitalize", "sentence", None),
    ] {
        harness.messages();
        harness.element.set_property_from_str(name, value);
        // The second sentence begins after 2 s.
        harness.speak_from(time_of(at), &samples[at..at + 1_600], 320);
        at += 1_600;
        let warnings: Vec<String> = harness.messages().iter().filter_map(warning_of).collect();
        assert_eq!(
            warnings.len(),
            usize::from(warning.is_some()),
            "{name}={value}: {warnings:?}"
        );
        assert!(
            warnings.iter().all(|text| text.contains(warning.unwrap())),
            "{warnings:?}"
        );
    }
    harness.speak_from(time_of(at), &samples[at..], 320);
    harness.eos();
    let text = harness.text();
    assert!(text.starts_with("Turn off the bedroom light"), "{text}");
}

fn warning_of(message: &gst::Message) -> Option<String> {
    match message.view() {
        gst::MessageView::Warning(warning) => Some(warning.error().message().to_owned()),
        gst::MessageView::Error(error) => panic!("{error:?}"),
        _ => None,
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Beam search in the element: what it emits, and when.

use gst::prelude::*;

use crate::{
    MS,
    common::{clip_s16, data},
    harness::{Harness, init},
};

const BEAM: &str = "lookahead=80 decoding-method=beam beam-size=4";

/// Texts of the buffers of `clip`.
fn texts(properties: &str, clip: &str) -> Vec<String> {
    let harness = Harness::play(properties);
    harness.speak(&clip_s16(clip), 1_600);
    harness.eos();
    harness.words().into_iter().map(|word| word.text).collect()
}

#[test]
fn words_and_utterances_are_those_of_beam_search() {
    let words = texts(BEAM, "u3_long");
    assert!(words.len() > 10, "{words:?}");
    for decoder in ["rnnt", "ctc"] {
        let by_word = texts(&format!("{BEAM} decoder={decoder}"), "u3_long").join(" ");
        let by_utterance = texts(&format!("{BEAM} decoder={decoder} output=utterances"), "u3_long").join(" ");
        // The demo model is sure enough that it does not matter how long hypotheses are kept.
        assert_eq!(by_word, by_utterance, "{decoder}");
    }
}

#[test]
fn messages_and_json_have_alternatives() {
    let properties = format!("{BEAM} n-best=3 output=utterances");
    let harness = Harness::play(&properties);
    harness.speak(&clip_s16("u5_eight_sentences"), 1_600);
    harness.eos();
    let messages = harness.word_messages();
    assert!(messages.len() >= 4, "{}", messages.len());
    let mut most = 0;
    for message in &messages {
        let alternatives = message.get::<gst::Array>("alternatives").unwrap();
        let alternatives: Vec<(String, f64)> = alternatives
            .iter()
            .map(|alternative| {
                let alternative = alternative.get::<gst::Structure>().unwrap();
                (alternative.get("text").unwrap(), alternative.get("score").unwrap())
            })
            .collect();
        assert_eq!(alternatives[0].0, message.get::<&str>("text").unwrap());
        assert!(alternatives.iter().all(|(_, score)| *score < 0.0));
        most = most.max(alternatives.len());
    }
    assert_eq!(most, 3);

    let harness = Harness::with_caps(&properties, "application/x-json");
    harness.start();
    harness.begin();
    harness.speak(&clip_s16("u1_command"), 1_600);
    harness.eos();
    let buffers = harness.words();
    let json: serde_json::Value = serde_json::from_str(&buffers[0].text).unwrap();
    assert_eq!(json["alternatives"][0]["text"], json["text"]);
    assert!(json["alternatives"][0]["score"].as_f64().unwrap() < 0.0);
}

#[test]
fn without_n_best_there_are_no_alternatives() {
    let harness = Harness::play(&format!("{BEAM} output=utterances"));
    harness.speak(&clip_s16("u1_command"), 1_600);
    harness.eos();
    let messages = harness.word_messages();
    assert!(!messages.is_empty() && messages.iter().all(|message| !message.has_field("alternatives")));
}

#[test]
fn latency_includes_the_time_until_words_are_decided() {
    // `output` takes effect when the element starts.
    let latency = |properties: &str| Harness::play(properties).latency().1;
    let greedy = latency("lookahead=80");
    assert_eq!(latency(BEAM), greedy - 320 * MS + 2_000 * MS);
    // Without `word-hold`, a word waits for the end of the utterance at most, and for the words that may change it.
    assert_eq!(latency("lookahead=80 word-hold=0"), greedy - 320 * MS + 800 * MS);
    assert_eq!(latency(&format!("{BEAM} word-hold=0")), greedy - 320 * MS + 2_000 * MS);
    let held = "word-hold=0 inverse-text-normalization=true phrase-hold";
    assert_eq!(
        latency(&format!("lookahead=80 {held}=1200")),
        greedy - 320 * MS + 1_200 * MS
    );
    assert_eq!(latency(&format!("{BEAM} {held}=2500")), greedy - 320 * MS + 2_500 * MS);
    let utterances = latency("lookahead=80 output=utterances");
    assert_eq!(latency(&format!("{BEAM} output=utterances")), utterances);
}

/// The first error of an element with `properties` that is started.
fn error(properties: &str) -> String {
    init();
    let line = format!(
        "audiotestsrc num-buffers=1 ! audio/x-raw,format=S16LE,rate=16000,channels=1 ! nemostt {properties} ! fakesink"
    );
    let pipeline = gst::parse::launch(&line).unwrap();
    let _ = pipeline.set_state(gst::State::Playing);
    let bus = pipeline.bus().unwrap();
    let kinds = [gst::MessageType::Error, gst::MessageType::Eos];
    let message = bus
        .timed_pop_filtered(gst::ClockTime::from_seconds(60), &kinds)
        .unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    match message.view() {
        gst::MessageView::Error(error) => error.error().to_string(),
        _ => String::new(),
    }
}

#[test]
fn properties_without_effect_and_broken_language_models_are_errors() {
    let wav = data("wav/u1_command.wav");
    for (properties, expected) in [
        ("n-best=2", "n-best=2 needs decoding-method=beam"),
        (
            "language-model=x.arpa",
            "language-model=\"x.arpa\" needs decoding-method=beam",
        ),
        (
            "decoding-method=beam language-model=/no/such.arpa",
            "cannot read /no/such.arpa",
        ),
        (
            &format!("decoding-method=beam language-model=\"{}\"", wav.display()),
            "is not an ARPA file",
        ),
        ("decoding-method=beam", ""),
    ] {
        let error = error(properties);
        assert!(
            error.contains(expected) && error.is_empty() == expected.is_empty(),
            "{properties}: {error}"
        );
    }
}

#[test]
fn language_model_changes_what_is_written() {
    let path = data("beam/sentences.arpa");
    for decoder in ["rnnt", "ctc"] {
        let plain = format!("{BEAM} decoder={decoder} output=utterances");
        let properties = format!("{plain} language-model=\"{}\" language-model-weight=3", path.display());
        assert_ne!(texts(&properties, "u3_long"), texts(&plain, "u3_long"), "{decoder}");
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The element with models of other kinds and layouts than the demo model.

use std::{fs, io::Write, path::Path, time::SystemTime};

use nemostt::{Options, Recognizer};

use crate::{
    common::{Goldens, Transcript, clip, clip_s16, data},
    harness::Harness,
};

const CLIP: &str = "u2_digits";

fn play(model: &str, properties: &str) -> Harness {
    Harness::play(&format!("model-path={} {properties}", data(model).display()))
}

fn play_clip(harness: &Harness) {
    harness.speak(&clip_s16(CLIP), 1_000);
    harness.eos();
}

fn structures(harness: &Harness, name: &str) -> Vec<gst::Structure> {
    let messages = harness.messages().into_iter();
    let structures = messages.filter_map(|message| message.structure().map(ToOwned::to_owned));
    structures.filter(|structure| structure.name() == name).collect()
}

/// The recognizer's text without the element.
fn expected(model: &str, language: &str, lookahead: Option<u32>) -> String {
    let options = Options {
        lookahead,
        threads: 1,
        ..Default::default()
    };
    let mut stream = Recognizer::load(data(model), &options).unwrap().stream().unwrap();
    stream.set_language(language).unwrap();
    Transcript::of(&mut stream, &clip(CLIP), 1_600).text()
}

#[test]
fn every_layout_runs_in_the_element() {
    for layout in [
        "nemo",
        "external",
        "sherpa",
        "sherpa_ctc",
        "parakeet_rs",
        "genai",
        "eou6",
        "fp16",
    ] {
        let model = format!("layouts/{layout}");
        // Words are held until the next one, like the recognizer does by default.
        let harness = play(&model, "word-hold=0 endpoint-silence=0");
        play_clip(&harness);
        let text = harness.text();
        assert!(!text.is_empty(), "{layout}");
        assert_eq!(text, expected(&model, "en-US", None), "{layout}");
    }
}

#[test]
fn unoptimized_graph_gives_the_same_text() {
    let [optimized, exported] = ["all", "none"].map(|optimization| {
        let harness = play(
            "layouts/nemo",
            &format!("lookahead=80 graph-optimization={optimization}"),
        );
        play_clip(&harness);
        harness.text()
    });
    assert!(!optimized.is_empty());
    assert_eq!(optimized, exported);
}

/// Makes a graph's file larger with an unknown field.
fn grow(graph: &Path) {
    const BYTES: usize = 32 << 20;
    // Field 1000, length-delimited: 1000 << 3 | 2, then 32 << 20.
    let mut file = fs::File::options().append(true).open(graph).unwrap();
    file.write_all(&[0xc2, 0x3e, 0x80, 0x80, 0x80, 0x10]).unwrap();
    file.write_all(&vec![0; BYTES]).unwrap();
}

#[test]
fn large_model_is_cached_in_cache_directory() {
    let place = tempfile::tempdir().unwrap();
    let (cache, model) = (place.path().join("cache"), place.path().join("model"));
    fs::create_dir(&model).unwrap();
    for file in fs::read_dir(data("layouts/nemo")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), model.join(file.file_name())).unwrap();
    }
    let graphs = fs::read_dir(&model).unwrap().map(|file| file.unwrap().path());
    let encoder = graphs
        .filter(|path| path.display().to_string().contains("encoder-"))
        .collect::<Vec<_>>();
    grow(&encoder[0]);
    let play = |directory: &Path| {
        let harness = Harness::play(&format!(
            "model-path={} precision=int8 lookahead=80 cache-directory=\"{}\"",
            model.display(),
            directory.display()
        ));
        play_clip(&harness);
        harness.text()
    };
    let uncached = play(Path::new(""));
    assert!(!uncached.is_empty() && !cache.exists());
    let entries = || {
        fs::read_dir(&cache)
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect::<Vec<_>>()
    };
    let first = play(&cache);
    let [entry] = &entries()[..] else {
        panic!("{:?}", entries())
    };
    // The second start reads it, which updates its modification time.
    let file = fs::File::options().write(true).open(entry).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let second = play(&cache);
    assert!(fs::metadata(entry).unwrap().modified().unwrap() > SystemTime::UNIX_EPOCH);
    assert_eq!(entries().len(), 1);
    assert_eq!([first, second], [uncached.clone(), uncached]);
}

#[test]
fn turn_ends_are_messages() {
    let mut goldens = Goldens::open("kinds/eou/goldens");
    let ends: Vec<&str> = goldens
        .tokens(CLIP, 1)
        .iter()
        .filter_map(|(id, _)| match id {
            126 => Some("end-of-utterance"),
            127 => Some("end-of-backchannel"),
            _ => None,
        })
        .collect();
    let harness = play("kinds/eou", "");
    play_clip(&harness);
    let words = harness.text();
    assert!(!words.is_empty() && !words.contains(['<', '>']), "{words}");
    let turns = structures(&harness, "nemostt-turn");
    let reasons: Vec<&str> = turns.iter().map(|turn| turn.get("ended-by").unwrap()).collect();
    assert_eq!(reasons, ends);
    let times: Vec<gst::ClockTime> = turns.iter().map(|turn| turn.get("time").unwrap()).collect();
    assert!(times.is_sorted());

    let quiet = play("kinds/eou", "post-messages=false");
    play_clip(&quiet);
    assert!(structures(&quiet, "nemostt-turn").is_empty());
}

#[test]
fn multilingual_model_follows_language_code() {
    let model = "kinds/nemotron_multi";
    let mut texts = Vec::new();
    for language in ["en-US", "de", "auto"] {
        let harness = play(
            model,
            &format!("lookahead=1040 word-hold=0 endpoint-silence=0 language-code={language}"),
        );
        play_clip(&harness);
        let text = harness.text();
        assert_eq!(text, expected(model, language, Some(1040)), "{language}");
        texts.push(text);
    }
    assert_ne!(texts[0], texts[1]);
}

#[test]
fn language_is_in_messages_and_json_but_not_in_text() {
    let harness = Harness::with_caps(
        &format!(
            "model-path={} lookahead=1040 language-code=auto output=utterances",
            data("kinds/nemotron_multi").display()
        ),
        "application/x-json",
    );
    harness.start();
    play_clip(&harness);
    let buffers = harness.words();
    let last: serde_json::Value = serde_json::from_str(&buffers.last().unwrap().text).unwrap();
    let language = last["language"].as_str().unwrap();
    assert!(language.contains('-'), "{last}");
    assert!(!last["text"].as_str().unwrap().contains(['<', '>']), "{last}");
    let messages = structures(&harness, "nemostt");
    assert_eq!(messages.last().unwrap().get::<&str>("language"), Ok(language));
}

#[test]
fn unknown_language_posts_one_warning() {
    let harness = play("kinds/nemotron_multi", "language-code=tlh");
    let samples = clip_s16(CLIP);
    let bytes: Vec<u8> = samples[..16_000]
        .iter()
        .flat_map(|sample| sample.to_le_bytes())
        .collect();
    let mut buffer = gst::Buffer::from_slice(bytes);
    buffer.get_mut().unwrap().set_pts(gst::ClockTime::ZERO);
    harness.push(buffer).unwrap();
    let messages = harness.messages();
    let warnings: Vec<String> = messages
        .iter()
        .filter_map(|message| match message.view() {
            gst::MessageView::Warning(warning) => Some(warning.error().to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(warnings.len(), 1, "{messages:?}");
    assert!(
        warnings[0].contains("tlh") && warnings[0].contains("de-DE"),
        "{warnings:?}"
    );
}

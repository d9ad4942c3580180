// SPDX-License-Identifier: MIT OR Apache-2.0

//! Beam search: transcripts compared with NeMo's, and what a stream decides when.

use std::{collections::BTreeMap, fs};

use serde::Deserialize;

use crate::common::{Transcript, clip, data, model_path, options, recognizer};
use nemostt::{
    Alternative, BeamConfig, DecoderKind, DecodingMethod, EndpointConfig, Error, Event, Hotwords, Options, Recognizer,
    Snapshot, Stream, Utterance,
};

const DECODERS: [DecoderKind; 2] = [DecoderKind::Rnnt, DecoderKind::Ctc];

/// Clips with words, and noise in which a model with random weights finds some.
const CLIPS: [&str; 3] = ["u3_long", "u5_eight_sentences", "e4_noise3s"];

/// Words one by one, with everything that may cut them short.
const BY_WORD: EndpointConfig = EndpointConfig {
    word: Some(4),
    utterance: Some(10),
    partials: true,
    partial_stability: 0,
    phrase: None,
    min_word: 2_000,
    emits_words: true,
    longest_word: Some(20),
    max_utterance: Some(64_000),
    max_utterance_chars: Some(30),
};

/// Utterances as a whole.
const BY_UTTERANCE: EndpointConfig = EndpointConfig {
    word: None,
    utterance: Some(6),
    partials: true,
    partial_stability: 0,
    phrase: None,
    min_word: 0,
    emits_words: false,
    longest_word: None,
    max_utterance: None,
    max_utterance_chars: None,
};

/// A case of `tests/data/beam/rnnt.json` or `ctc.json`.
#[derive(Deserialize)]
struct Case {
    model: String,
    clip: String,
    lookahead: usize,
    beam: usize,
    hotwords: BTreeMap<String, f32>,
    lm: String,
    alpha: f32,
    /// Number of NeMo's hypotheses, of which the file may have the best one only.
    count: usize,
    /// Whether NeMo's scores depend on the order in which torch sorts equal ones.
    #[serde(default)]
    depends_on_order: bool,
    nbest: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    tokens: Vec<usize>,
    score: f64,
}

fn beam(size: usize) -> DecodingMethod {
    DecodingMethod::Beam(BeamConfig {
        size,
        n_best: size,
        ..Default::default()
    })
}

fn stream(recognizer: &Recognizer, size: usize, pauses: EndpointConfig) -> Stream {
    let mut stream = recognizer.stream().unwrap();
    stream.set_decoding_method(&beam(size)).unwrap();
    stream.set_endpoint_config(pauses);
    stream
}

fn take(stream: &mut Stream) -> Vec<Event> {
    std::iter::from_fn(|| stream.next_event()).collect()
}

/// All events of `samples` in blocks of `cut`.
fn events(stream: &mut Stream, samples: &[f32], cut: usize) -> Vec<Event> {
    let mut events = Vec::new();
    for block in samples.chunks(cut) {
        stream.accept(block).unwrap();
        events.extend(take(stream));
    }
    stream.finish(0).unwrap();
    events.extend(take(stream));
    events
}

fn utterances(events: &[Event]) -> Vec<&Utterance> {
    fn utterance(event: &Event) -> Option<&Utterance> {
        match event {
            Event::Utterance(utterance) => Some(utterance),
            _ => None,
        }
    }
    events.iter().filter_map(utterance).collect()
}

fn ids(events: &[Event]) -> Vec<usize> {
    let id = |event: &Event| match event {
        Event::Token(token) => Some(token.id),
        _ => None,
    };
    events.iter().filter_map(id).collect()
}

fn assert_is_nemo(file: &str, decoder: DecoderKind) {
    let cases: Vec<Case> = serde_json::from_slice(&fs::read(data(file)).unwrap()).unwrap();
    assert!(cases.len() >= 300);
    let (mut recognizers, mut compared, mut of_order) = (BTreeMap::new(), 0, 0);
    for case in &cases {
        let recognizer = recognizers
            .entry((&case.model, case.lookahead))
            .or_insert_with(|| recognizer(&case.model, case.lookahead, decoder));
        let Case {
            model,
            clip: name,
            lookahead,
            beam,
            hotwords,
            lm,
            ..
        } = case;
        let name = format!("{model}, {name}, lookahead {lookahead}, beam {beam}, {hotwords:?}, {lm:?}");
        let mut stream = recognizer.stream().unwrap();
        let language_model = (!lm.is_empty()).then(|| recognizer.language_model(data(&format!("beam/{lm}"))).unwrap());
        let config = BeamConfig {
            size: case.beam,
            n_best: case.beam,
            language_model,
            language_model_weight: case.alpha,
        };
        stream.set_decoding_method(&DecodingMethod::Beam(config)).unwrap();
        let mut list = Hotwords::default();
        for (phrase, &weight) in hotwords {
            list.push(phrase, weight).unwrap();
        }
        stream.set_hotwords(&list).unwrap();
        let events = events(&mut stream, &clip(&case.clip), 3_000);
        let best = &case.nbest[0];
        assert_eq!(ids(&events), best.tokens, "{name}");
        if case.depends_on_order {
            of_order += 1;
            continue;
        }
        let alternatives: Vec<&Alternative> = utterances(&events).iter().flat_map(|one| &one.alternatives).collect();
        if case.nbest.len() < case.count {
            assert_eq!(alternatives.is_empty(), best.tokens.is_empty(), "{name}");
            for alternative in alternatives.iter().take(1) {
                assert_close(alternative.score, best.score, &name);
            }
            continue;
        }
        // Transcripts with the same text are one of ours, the first one.
        let mut expected = case.nbest.iter();
        for alternative in &alternatives {
            let is_it = |one: &&Expected| (one.score - alternative.score).abs() < tolerance(one.score);
            let found = expected.by_ref().find(is_it);
            assert!(found.is_some(), "{name}: {alternative:?}");
        }
        compared += alternatives.len();
    }
    assert!(compared >= 100 && of_order <= 5, "{compared}, {of_order}");
}

/// Encoder outputs differ from NeMo's by up to 1e-4, and a score is a sum over all frames.
fn tolerance(score: f64) -> f64 {
    2e-3 * score.abs().max(1.0)
}

fn assert_close(a: f64, b: f64, name: &str) {
    assert!((a - b).abs() < tolerance(b), "{name}: {a} and {b}");
}

#[test]
fn rnnt_transcripts_are_those_of_nemo() {
    assert_is_nemo("beam/rnnt.json", DecoderKind::Rnnt);
}

#[test]
fn ctc_transcripts_are_those_of_nemo() {
    assert_is_nemo("beam/ctc.json", DecoderKind::Ctc);
}

#[test]
fn events_do_not_depend_on_how_audio_is_cut() {
    for decoder in DECODERS {
        for (model, lookahead) in [("trained", 1), ("tiny_random", 6)] {
            let recognizer = recognizer(model, lookahead, decoder);
            for name in CLIPS {
                for pauses in [BY_WORD, BY_UTTERANCE, EndpointConfig::default()] {
                    let samples = clip(name);
                    let mut stream = stream(&recognizer, 4, pauses);
                    let expected = events(&mut stream, &samples, 1_600);
                    for cut in [161, 20_483, samples.len()] {
                        stream.reset();
                        let found = events(&mut stream, &samples, cut);
                        assert_eq!(found, expected, "{decoder:?}, {model}, {name}, {pauses:?}, {cut}");
                    }
                }
            }
        }
    }
}

#[test]
fn no_word_begins_before_what_was_stable_and_words_are_those_of_utterances() {
    for decoder in DECODERS {
        for (model, lookahead) in [("trained", 1), ("tiny_random", 0)] {
            let recognizer = recognizer(model, lookahead, decoder);
            for name in CLIPS {
                for pauses in [BY_WORD, BY_UTTERANCE, EndpointConfig::default()] {
                    let mut stream = stream(&recognizer, 8, pauses);
                    let (mut stable, mut stable_utterance) = (0, 0);
                    let (mut words, mut of_utterances) = (Vec::new(), Vec::new());
                    let mut check = |stream: &mut Stream, is_end: bool| {
                        for event in take(stream) {
                            match event {
                                Event::Word(word) => {
                                    assert!(word.start >= stable, "{name}: {word:?} after {stable}");
                                    words.push(word);
                                }
                                Event::Utterance(utterance) => {
                                    let start = utterance.start();
                                    assert!(start >= stable_utterance, "{name}: {start} after {stable_utterance}");
                                    of_utterances.extend(utterance.words);
                                }
                                _ => {}
                            }
                        }
                        if !is_end {
                            assert!(
                                stream.stable_until() >= stable && stream.utterance_stable_until() >= stable_utterance
                            );
                            (stable, stable_utterance) = (stream.stable_until(), stream.utterance_stable_until());
                        }
                    };
                    for block in clip(name).chunks(1_280) {
                        stream.accept(block).unwrap();
                        check(&mut stream, false);
                    }
                    stream.finish(0).unwrap();
                    check(&mut stream, true);
                    assert_eq!(words, of_utterances, "{name}");
                    assert!((model, name) != ("trained", "u3_long") || words.len() > 10);
                }
            }
        }
    }
}

#[test]
fn words_are_decided_within_the_limits() {
    const LIMIT: u64 = 20;
    for decoder in DECODERS {
        let recognizer = recognizer("tiny_random", 0, decoder);
        let mut stream = stream(&recognizer, 8, BY_WORD);
        for block in clip("u5_eight_sentences").chunks(1_280) {
            stream.accept(block).unwrap();
            // Half a frame of look-ahead and a frame that has not ended; a word waits for the first frame of the next one.
            let behind = stream.samples() - stream.stable_until();
            assert!(behind <= (LIMIT + 4) * 1_280, "{decoder:?}: {behind} samples behind");
        }
    }
}

#[test]
fn partials_show_undecided_words_and_utterances_their_alternatives() {
    for decoder in DECODERS {
        let recognizer = recognizer("trained", 1, decoder);
        let mut stream = stream(&recognizer, 4, BY_UTTERANCE);
        let events = events(&mut stream, &clip("u5_eight_sentences"), 1_600);
        let partials = events.iter().filter(|event| matches!(event, Event::Partial(_))).count();
        let utterances = utterances(&events);
        assert!(utterances.len() >= 4 && partials > 2 * utterances.len(), "{decoder:?}");
        for utterance in &utterances {
            assert_eq!(utterance.alternatives[0].text, utterance.text(), "{decoder:?}");
            assert!(utterance.alternatives.len() <= 4);
            let mut texts: Vec<&str> = utterance.alternatives.iter().map(|one| one.text.as_str()).collect();
            texts.sort_unstable();
            texts.dedup();
            assert_eq!(texts.len(), utterance.alternatives.len(), "{decoder:?}");
        }
        assert!(utterances.iter().any(|one| one.alternatives.len() > 1), "{decoder:?}");
        // The last partial before an utterance has the same words.
        let mut partial = None;
        for event in &events {
            match event {
                Event::Partial(one) => partial = Some(one.utterance.text()),
                Event::Utterance(one) => assert_eq!(partial.take(), Some(one.text()), "{decoder:?}"),
                _ => {}
            }
        }
    }
}

#[test]
fn snapshot_holds_all_hypotheses() {
    for decoder in DECODERS {
        for model in ["trained", "tiny_random"] {
            let recognizer = recognizer(model, 1, decoder);
            for pauses in [BY_WORD, EndpointConfig::default()] {
                let samples = clip("u3_long");
                let expected = events(&mut stream(&recognizer, 4, pauses), &samples, samples.len());
                let mut stream = stream(&recognizer, 4, pauses);
                let (mut snapshot, mut found, mut from) = (Snapshot::default(), Vec::new(), 0);
                for cut in (8_001..samples.len()).step_by(9_000) {
                    stream.accept(&samples[from..cut]).unwrap();
                    found.extend(take(&mut stream));
                    stream.save(&mut snapshot);
                    // Another end, and another method.
                    stream.accept(&clip("u1_command")).unwrap();
                    stream.finish(0).unwrap();
                    stream.reset();
                    stream.set_decoding_method(&DecodingMethod::Greedy).unwrap();
                    stream.accept(&clip("u2_digits")).unwrap();
                    stream.restore(&snapshot).unwrap();
                    from = cut;
                }
                stream.accept(&samples[from..]).unwrap();
                stream.finish(0).unwrap();
                found.extend(take(&mut stream));
                assert_eq!(found, expected, "{decoder:?}, {model}, {pauses:?}");
            }
        }
    }
}

#[test]
fn streams_with_and_without_a_beam_run_at_the_same_time() {
    for decoder in DECODERS {
        let options = Options {
            threads: 2,
            max_batch: Some(4),
            ..options(1, decoder)
        };
        let recognizer = Recognizer::load(model_path("trained"), &options).unwrap();
        let samples = clip("u3_long");
        let new = |size: usize| match size {
            0 => recognizer.stream().unwrap(),
            size => stream(&recognizer, size, BY_WORD),
        };
        let alone = [0, 2, 8, 4].map(|size| events(&mut new(size), &samples, 1_280));
        let together = std::thread::scope(|scope| {
            let run = |size| scope.spawn(move || events(&mut new(size), &clip("u3_long"), 1_280));
            [0, 2, 8, 4].map(run).map(|running| running.join().unwrap())
        });
        assert_eq!(together, alone, "{decoder:?}");
    }
}

#[test]
fn greedy_decoding_is_the_same_before_and_after() {
    for decoder in DECODERS {
        let recognizer = recognizer("trained", 1, decoder);
        let samples = clip("u3_long");
        let expected = Transcript::of(&mut recognizer.stream().unwrap(), &samples, 700);
        let mut stream = stream(&recognizer, 4, EndpointConfig::default());
        stream.accept(&samples[..40_000]).unwrap();
        stream.reset();
        stream.set_decoding_method(&DecodingMethod::Greedy).unwrap();
        assert_eq!(Transcript::of(&mut stream, &samples, 700), expected);
    }
}

#[test]
fn phrases_apply_and_can_be_replaced_in_the_middle() {
    for decoder in DECODERS {
        let recognizer = recognizer("trained", 1, decoder);
        let samples = clip("u3_long");
        let plain = events(&mut stream(&recognizer, 4, BY_WORD), &samples, 1_600);
        let list = Hotwords::parse("nine nine:6, kitchen:6, stop:6, one eight:6", Hotwords::DEFAULT_WEIGHT).unwrap();
        let mut stream = stream(&recognizer, 4, BY_WORD);
        stream.set_hotwords(&list).unwrap();
        let boosted = events(&mut stream, &samples, 1_600);
        assert_ne!(ids(&boosted), ids(&plain), "{decoder:?}");
        // They outlast a reset.
        stream.reset();
        assert_eq!(events(&mut stream, &samples, 700), boosted, "{decoder:?}");
        stream.reset();
        stream.accept(&samples[..30_000]).unwrap();
        stream.set_hotwords(&Hotwords::default()).unwrap();
        stream.reset();
        assert_eq!(events(&mut stream, &samples, 700), plain, "{decoder:?}");
    }
}

#[test]
fn methods_that_cannot_be_used_are_errors_and_change_nothing() {
    let recognizer = recognizer("trained", 1, DecoderKind::Rnnt);
    let mut stream = recognizer.stream().unwrap();
    for size in [0, BeamConfig::MAX_SIZE + 1] {
        let error = stream.set_decoding_method(&beam(size)).unwrap_err();
        assert!(error.to_string().contains("expected 1 to 32"), "{error}");
    }
    let error = recognizer.language_model(data("wav/u3_long.wav")).unwrap_err();
    assert!(
        matches!(error, Error::LanguageModel { .. }) && error.to_string().contains("ARPA"),
        "{error}"
    );
    let error = recognizer.language_model(data("missing.arpa")).unwrap_err();
    assert!(matches!(error, Error::Read { .. }));
    stream.accept(&[0.0; 160]).unwrap();
    let error = stream.set_decoding_method(&beam(4)).unwrap_err();
    assert!(error.to_string().contains("before the first samples"), "{error}");
    stream.reset();
    stream.set_decoding_method(&beam(4)).unwrap();
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Boosting: tokens compared with those of NeMo's decoding with a boosting tree, and what happens to it in a stream.

use std::{collections::BTreeMap, fs};

use serde::Deserialize;

use crate::common::{Transcript, clip, data, recognizer};
use nemostt::{DecoderKind, Error, Hotwords, Recognizer, Snapshot, Stream};

const DECODERS: [DecoderKind; 2] = [DecoderKind::Rnnt, DecoderKind::Ctc];
/// A clip, and phrases with which the demo model transcribes it differently with either decoder.
const CLIP: &str = "u3_long";
const PHRASES: &str = "nine nine:12, kitchen:12, stop:12, one eight:9, the bedroom door:9";

/// A case of `tests/data/boosting/rnnt.json`.
#[derive(Deserialize)]
struct Case {
    model: String,
    clip: String,
    lookahead: usize,
    hotwords: BTreeMap<String, f32>,
    tokens: Vec<usize>,
    frames: Vec<u64>,
}

fn hotwords(list: &str) -> Hotwords {
    Hotwords::parse(list, Hotwords::DEFAULT_WEIGHT).unwrap()
}

fn boosted(recognizer: &Recognizer, list: &str) -> Stream {
    let mut stream = recognizer.stream().unwrap();
    stream.set_hotwords(&hotwords(list)).unwrap();
    stream
}

#[test]
fn tokens_are_those_of_nemo() {
    let cases: Vec<Case> = serde_json::from_slice(&fs::read(data("boosting/rnnt.json")).unwrap()).unwrap();
    assert!(cases.len() >= 40);
    let (mut recognizers, mut changed) = (BTreeMap::new(), 0);
    for case in &cases {
        let recognizer = recognizers
            .entry((&case.model, case.lookahead))
            .or_insert_with(|| recognizer(&case.model, case.lookahead, DecoderKind::Rnnt));
        let mut list = Hotwords::default();
        for (phrase, &weight) in &case.hotwords {
            list.push(phrase, weight).unwrap();
        }
        let samples = clip(&case.clip);
        let mut stream = recognizer.stream().unwrap();
        let plain = Transcript::of(&mut stream, &samples, 3_000).token_frames();
        stream.reset();
        stream.set_hotwords(&list).unwrap();
        let tokens = Transcript::of(&mut stream, &samples, 3_000).token_frames();
        let expected: Vec<_> = case.tokens.iter().copied().zip(case.frames.iter().copied()).collect();
        assert_eq!(
            tokens, expected,
            "{}, {}, lookahead {}, {:?}",
            case.model, case.clip, case.lookahead, case.hotwords
        );
        changed += usize::from(tokens != plain);
    }
    assert!(changed >= 10, "boosting changed {changed} transcripts only");
}

#[test]
fn phrases_belong_to_a_stream_and_outlast_a_reset() {
    for decoder in DECODERS {
        let recognizer = recognizer("trained", 1, decoder);
        let samples = clip(CLIP);
        let mut plain = recognizer.stream().unwrap();
        let mut with_phrases = boosted(&recognizer, PHRASES);
        // At the same time.
        let (mut first, mut second) = (Transcript::default(), Transcript::default());
        for block in samples.chunks(1_600) {
            plain.accept(block).unwrap();
            with_phrases.accept(block).unwrap();
        }
        plain.finish(0).unwrap();
        with_phrases.finish(0).unwrap();
        first.collect(&mut plain);
        second.collect(&mut with_phrases);
        assert_ne!(first.token_frames(), second.token_frames(), "{decoder:?}");

        plain.reset();
        assert_eq!(Transcript::of(&mut plain, &samples, 700), first);
        // In the middle of a phrase, too.
        with_phrases.reset();
        with_phrases.accept(&samples[..40_000]).unwrap();
        with_phrases.reset();
        assert_eq!(Transcript::of(&mut with_phrases, &samples, 700), second, "{decoder:?}");
        with_phrases.set_hotwords(&Hotwords::default()).unwrap();
        with_phrases.reset();
        assert_eq!(Transcript::of(&mut with_phrases, &samples, 700), first);
    }
}

#[test]
fn phrases_apply_from_the_next_chunk_on() {
    for decoder in DECODERS {
        let recognizer = recognizer("trained", 1, decoder);
        let samples = clip(CLIP);
        let plain = Transcript::of(&mut recognizer.stream().unwrap(), &samples, 1_600);
        let all = Transcript::of(&mut boosted(&recognizer, PHRASES), &samples, 1_600);
        // Before the first token that boosting changes, and at the end.
        for (at, expected) in [(0, &all), (samples.len(), &plain)] {
            let mut stream = recognizer.stream().unwrap();
            stream.accept(&samples[..at]).unwrap();
            stream.set_hotwords(&hotwords(PHRASES)).unwrap();
            let mut transcript = Transcript::default();
            transcript.collect(&mut stream);
            stream.accept(&samples[at..]).unwrap();
            stream.finish(0).unwrap();
            transcript.collect(&mut stream);
            if at == 0 {
                assert_eq!(&transcript, expected);
            } else {
                // Only the last window was not decoded yet.
                let decoded = samples.len() as u64 / 1_280 - 4;
                let early = |transcript: &Transcript| -> Vec<_> {
                    let tokens = transcript.token_frames();
                    tokens.into_iter().filter(|&(_, frame)| frame < decoded).collect()
                };
                assert_eq!(early(&transcript), early(expected));
                assert!(early(&transcript).len() > 10);
            }
        }
    }
}

#[test]
fn snapshot_holds_phrases_and_how_far_the_stream_is_in_them() {
    for decoder in DECODERS {
        let recognizer = recognizer("trained", 1, decoder);
        let samples = clip(CLIP);
        let expected = Transcript::of(&mut boosted(&recognizer, PHRASES), &samples, samples.len());
        let mut snapshot = Snapshot::default();
        for cut in (8_000..samples.len()).step_by(9_000) {
            let mut stream = boosted(&recognizer, PHRASES);
            let mut transcript = Transcript::default();
            stream.accept(&samples[..cut]).unwrap();
            transcript.collect(&mut stream);
            stream.save(&mut snapshot);
            // Another stream, without phrases.
            let mut other = recognizer.stream().unwrap();
            other.restore(&snapshot).unwrap();
            other.accept(&samples[cut..]).unwrap();
            other.finish(0).unwrap();
            transcript.collect(&mut other);
            assert_eq!(transcript, expected, "{decoder:?}, {cut}");
            // What was set later is undone.
            stream.set_hotwords(&hotwords("zero:50")).unwrap();
            stream.restore(&snapshot).unwrap();
            stream.accept(&samples[cut..]).unwrap();
            stream.finish(0).unwrap();
            let mut rest = Transcript::default();
            rest.collect(&mut stream);
            assert!(transcript.tokens.ends_with(&rest.tokens), "{decoder:?}, {cut}");
        }
    }
}

#[test]
fn phrase_that_the_model_cannot_write_is_an_error_and_changes_nothing() {
    let recognizer = recognizer("trained", 1, DecoderKind::Rnnt);
    let samples = clip(CLIP);
    let expected = Transcript::of(&mut boosted(&recognizer, PHRASES), &samples, 1_600);
    let mut stream = boosted(&recognizer, PHRASES);
    let error = stream.set_hotwords(&hotwords("one, zwölf")).unwrap_err();
    assert!(matches!(error, Error::Hotwords { .. }));
    let text = error.to_string();
    assert!(text.contains("\"zwölf\" ('ö')"), "{text}");
    assert_eq!(Transcript::of(&mut stream, &samples, 1_600), expected);
}

#[test]
fn tree_is_shared_by_models_with_the_same_tokens_only() {
    let trained = recognizer("trained", 1, DecoderKind::Rnnt);
    let tree = trained.boosting_tree(&hotwords(PHRASES)).unwrap();
    assert_eq!(tree.phrases(), 5);
    // Another copy of the model, with the other decoder.
    let mut stream = recognizer("trained", 1, DecoderKind::Ctc).stream().unwrap();
    stream.set_boosting_tree(Some(&tree)).unwrap();
    let mut stream = recognizer("kinds/single_80ms_pc", 1, DecoderKind::Rnnt)
        .stream()
        .unwrap();
    let error = stream.set_boosting_tree(Some(&tree)).unwrap_err();
    assert!(matches!(error, Error::OtherBoostingTree));
}

#[test]
fn capitals_and_punctuation_are_tokens_where_the_model_has_them() {
    let recognizer = recognizer("kinds/single_80ms_pc", 1, DecoderKind::Rnnt);
    let tokens = |list: &str| recognizer.boosting_tree(&hotwords(list)).unwrap().nodes();
    // As written, and with a capital: two different phrases.
    assert!(tokens("call") > tokens("Call"));
    assert!(tokens("Mr. Smith") > tokens("Mr"));
    let plain = recognizer_of_lower_case();
    let nodes = |list: &str| plain.boosting_tree(&hotwords(list)).unwrap().nodes();
    assert_eq!(nodes("GARDEN Light"), nodes("garden light"));
}

fn recognizer_of_lower_case() -> Recognizer {
    recognizer("trained", 1, DecoderKind::Rnnt)
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Encoders whose batches run in ONNX Runtime, as on a GPU, here on the CPU: against NeMo's values, and streams together
//! against each of them alone.
//!
//! ONNX Runtime does not promise that a matrix product of more rows sums in the same order, so a stream's values may depend on
//! the size of the batch, but not on who is in it. (With AVX-512, these models have the same bits in batches of any size.) What
//! it says must not.

use crate::{
    batches::{Observed, check_with, live, load},
    common::{CLIPS, Goldens, clip},
    goldens::{check_encoder, check_text},
};
use nemostt::{DecoderKind, Device, Error, Event, Options, Partial, Recognizer, Snapshot};

/// How much a value may depend on the size of the batch. Encoder frames are up to about 10; log-probabilities are larger.
const TOLERANCE: f32 = 2e-4;

fn batched(model: &str, decoder: DecoderKind, lookahead: usize, change: impl FnOnce(&mut Options)) -> Recognizer {
    load(model, decoder, lookahead, |options| {
        options.device = Device::Cpu;
        options.batch_on_cpu = true;
        options.max_streams = Some(16);
        change(options);
    })
}

/// Events without confidences, which are computed from the values.
fn without_confidence(events: &[Event]) -> Vec<String> {
    let word = |word: &nemostt::Word| format!("{} {} {}", word.text, word.start, word.end);
    let text = |event: &Event| match event {
        Event::Word(found) => word(found),
        Event::Token(token) => format!("{} {}", token.id, token.frame),
        Event::Partial(Partial { utterance, .. }) | Event::Utterance(utterance) => {
            utterance.words.iter().map(word).collect::<Vec<_>>().join(", ")
        }
        event => format!("{event:?}"),
    };
    events.iter().map(text).collect()
}

fn assert_close(alone: &Observed, together: &Observed) {
    assert_eq!(alone.outputs.len(), together.outputs.len());
    for (number, (a, b)) in alone.outputs.iter().zip(&together.outputs).enumerate() {
        let (a, b) = (f32::from_bits(*a), f32::from_bits(*b));
        assert!(
            (a - b).abs() <= TOLERANCE * a.abs().max(1.0),
            "value {number}: {a} and {b}"
        );
    }
    assert_eq!(without_confidence(&alone.events), without_confidence(&together.events));
}

#[test]
fn batched_encoder_matches_nemo() {
    for (model, lookahead) in [("tiny_random", 0), ("tiny_random", 13), ("trained", 1)] {
        let recognizer = batched(model, DecoderKind::Rnnt, lookahead, |_| ());
        let mut goldens = Goldens::open(model);
        check_encoder(&recognizer, model, &mut goldens, lookahead, &CLIPS);
        check_text(&recognizer, model, &mut goldens, (lookahead, DecoderKind::Rnnt));
        let jobs: u64 = recognizer.metrics().lanes.iter().map(|lane| lane.jobs).sum();
        assert!(jobs > 20, "it has not run in batches");
    }
    let recognizer = batched("trained", DecoderKind::Ctc, 6, |_| ());
    check_text(
        &recognizer,
        "trained",
        &mut Goldens::open("trained"),
        (6, DecoderKind::Ctc),
    );
}

/// Ages, first and last windows, resets, snapshots and streams that come and go at random; batches that are filled up, and
/// more streams than fit in one.
#[test]
fn batched_streams_do_not_depend_on_each_other() {
    for (model, decoder, lookahead, max_batch) in [
        ("trained", DecoderKind::Rnnt, 1, 8),
        ("tiny_random", DecoderKind::Ctc, 0, 3),
        ("nemotron_shape", DecoderKind::Rnnt, 1, 6),
    ] {
        let recognizer = batched(model, decoder, lookahead, |options| options.max_batch = Some(max_batch));
        check_with(&recognizer, 7, 30, assert_close);
        let metrics = recognizer.metrics();
        assert!(
            metrics.lanes.iter().all(|lane| lane.batch_sizes.len() <= max_batch),
            "{metrics:?}"
        );
    }
}

/// Weights stay fp16, and the graph, whose caches are cast, is batched nevertheless.
#[test]
fn fp16_encoder_is_batched() {
    let speech = clip("u2_digits");
    let outputs = |recognizer: &Recognizer| {
        let mut outputs: Vec<f32> = Vec::new();
        let mut stream = recognizer.stream().unwrap();
        let mut keep = |_: &nemostt::chunker::Window<'_>, values: &[f32]| outputs.extend(values);
        stream.accept_observed(&speech, &mut keep).unwrap();
        outputs
    };
    let fp16 = batched("layouts/fp16", DecoderKind::Rnnt, 1, |_| ());
    assert_eq!(fp16.config().precision, nemostt::Precision::Fp16);
    let found = outputs(&fp16);
    assert!(
        fp16.metrics().lanes.iter().any(|lane| lane.jobs > 10),
        "it has not run in batches"
    );
    let expected = outputs(&load("layouts/fp16", DecoderKind::Rnnt, 1, |_| ()));
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(&expected) {
        // As for the layout itself, with NeMo's values.
        assert!((a - b).abs() < 0.1, "{a} and {b}");
    }
}

/// Slots of streams that have ended are reused, and have nothing of them.
#[test]
fn slots_are_reused() {
    let recognizer = batched("tiny_random", DecoderKind::Ctc, 1, |options| {
        options.max_streams = Some(3)
    });
    let speech = clip("u3_long");
    let first = live(&recognizer, &speech, 3, 20);
    for seed in 0..40 {
        // With three snapshots at a time, it is not more than the slots of three streams.
        live(&recognizer, &speech, seed, 3);
    }
    assert!(live(&recognizer, &speech, 3, 20) == first);
    let metrics = recognizer.metrics();
    assert_eq!(metrics.streams, 0);
    // A stream and a snapshot have keys and values of 70 frames for each layer, and a few small tensors.
    let streaming = recognizer.config().streaming;
    let caches = 2 * streaming.layers * 2 * 70 * streaming.d_model * 4;
    assert!((caches..2 * caches).contains(&metrics.bytes_per_stream), "{metrics:?}");
}

#[test]
fn one_stream_more_than_places_is_an_error() {
    let recognizer = batched("tiny_random", DecoderKind::Ctc, 1, |options| {
        options.max_streams = Some(2)
    });
    let streams = [recognizer.stream().unwrap(), recognizer.stream().unwrap()];
    let Err(refused) = recognizer.stream() else {
        panic!("there are only two places");
    };
    assert!(matches!(refused, Error::NoPlace { streams: 2, .. }), "{refused}");
    assert!(
        refused.to_string().contains("2 streams") && refused.to_string().contains("max-streams"),
        "{refused}"
    );
    drop(streams);
    recognizer.stream().unwrap();
}

#[test]
fn snapshot_keeps_its_caches() {
    let recognizer = batched("tiny_random", DecoderKind::Ctc, 1, |options| {
        options.max_streams = Some(1)
    });
    let speech = clip("u3_long");
    let (start, rest) = speech.split_at(32_000);
    let run = |stream: &mut nemostt::Stream| {
        let mut outputs: Vec<u32> = Vec::new();
        let mut keep = |_: &nemostt::chunker::Window<'_>, values: &[f32]| {
            outputs.extend(values.iter().map(|value| value.to_bits()));
        };
        stream.accept_observed(&rest[..32_000], &mut keep).unwrap();
        outputs
    };
    let mut stream = recognizer.stream().unwrap();
    stream.accept(start).unwrap();
    let mut snapshot = Snapshot::default();
    stream.save(&mut snapshot);
    let first = run(&mut stream);
    for _ in 0..3 {
        stream.restore(&snapshot).unwrap();
        assert!(run(&mut stream) == first);
    }
    // The stream has one slot, its snapshot the other.
    let mut second = Snapshot::default();
    stream.save(&mut second);
    let full = stream.accept(rest).unwrap_err();
    assert!(matches!(full, Error::NoPlace { streams: 1, .. }), "{full}");
    drop(second);
    stream.restore(&snapshot).unwrap();
    assert!(run(&mut stream) == first);
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Benchmarks of each stage: `cargo bench`, with the demo model or the one in NEMOSTT_BENCH_MODEL.
//!
//! criterion's "elem/s" are mel frames in `front_end` and samples elsewhere. Samples per second divided by the sample
//! rate are the number of streams that the threads in use can process in real time.

use std::{
    hint::black_box,
    path::PathBuf,
    time::{Duration, Instant},
};

use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use nemostt::{
    BeamConfig, DecoderKind, DecodingMethod, Device, EndpointConfig, Error, Hotwords, Options, Recognizer, Stream,
    features::{FrontEnd, FrontEndConfig},
    text::TokenText,
};

/// Lookaheads in milliseconds. Those that the model does not support are skipped.
const LOOKAHEADS: [u32; 4] = [0, 80, 480, 1040];

/// 25 s of speech at 16 kHz, -1.0 to 1.0.
fn speech() -> Vec<f32> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo.wav");
    let reader = hound::WavReader::open(path).expect("assets/demo.wav exists");
    assert_eq!(reader.spec().sample_rate, 16_000);
    let samples = reader.into_samples::<i16>();
    samples
        .map(|sample| f32::from(sample.expect("assets/demo.wav is complete")) / 32_768.0)
        .collect()
}

/// Loads the model with this lookahead; `None` if the model does not support it.
fn recognizer(lookahead: Option<u32>, decoder: DecoderKind, threads: usize) -> Option<Recognizer> {
    let demo = || concat!(env!("CARGO_MANIFEST_DIR"), "/crates/nemostt/assets/demo-model").into();
    let path = std::env::var_os("NEMOSTT_BENCH_MODEL").map_or_else(demo, PathBuf::from);
    let options = Options {
        lookahead,
        decoder,
        device: Device::Auto,
        threads,
        ..Default::default()
    };
    match Recognizer::load(path, &options) {
        Ok(recognizer) => {
            assert_eq!(
                recognizer.config().front_end.sample_rate,
                16_000,
                "the rate of assets/demo.wav"
            );
            Some(recognizer)
        }
        Err(error @ (Error::Lookahead { .. } | Error::Decoder { .. })) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// A group with few and short measurements: all benchmarks together take less than four minutes on two cores.
fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    group
}

fn drain(stream: &mut Stream) {
    while let Some(event) = stream.next_event() {
        black_box(event);
    }
}

/// 10 s of samples to mel frames.
fn front_end(criterion: &mut Criterion) {
    let speech = speech();
    let speech = &speech[..160_000];
    let mut group = group(criterion, "front_end");
    for mels in [80, 128] {
        let config = FrontEndConfig::nemo(mels);
        let mut front_end = FrontEnd::new(config);
        group.throughput(Throughput::Elements(config.frames(speech.len() as u64)));
        group.bench_function(format!("{mels} mels"), |bencher| {
            bencher.iter(|| {
                let mut frames = |frame: &[f32]| {
                    black_box(frame);
                    Ok::<(), Error>(())
                };
                front_end.reset();
                front_end
                    .accept(speech, &mut frames)
                    .expect("the callback does not fail");
                front_end.finish(&mut frames).expect("the callback does not fail");
            });
        });
    }
    group.finish();
}

/// One chunk of samples through a stream whose attention cache is full: one run of the encoder, plus front end and
/// decoder for the same frames, which cannot be measured separately from outside the crate.
fn encoder_step(criterion: &mut Criterion) {
    let speech = speech();
    let mut group = group(criterion, "encoder_step");
    for lookahead in LOOKAHEADS {
        let Some(recognizer) = recognizer(Some(lookahead), DecoderKind::Auto, 1) else {
            continue;
        };
        let config = recognizer.config();
        let chunk = (config.lookahead + 1) * config.frame_samples() as usize;
        let mut stream = recognizer.stream().expect("enough memory");
        // The whole clip: longer than the left context of any published model.
        stream.accept(&speech).expect("the clip is accepted");
        drain(&mut stream);
        let mut chunks = speech.chunks_exact(chunk).cycle();
        group.throughput(Throughput::Elements(chunk as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{lookahead} ms")), |bencher| {
            bencher.iter(|| {
                stream
                    .accept(chunks.next().expect("the iterator is infinite"))
                    .expect("the clip is accepted");
                drain(&mut stream);
            });
        });
    }
    group.finish();
}

/// The whole clip, from samples to words, with one stream that is reset before each iteration.
fn whole_clip(group: &mut BenchmarkGroup<'_, WallTime>, id: BenchmarkId, mut stream: Stream, speech: &[f32]) {
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(speech.len() as u64));
    group.bench_function(id, |bencher| {
        bencher.iter(|| {
            stream.reset();
            stream.accept(speech).expect("the clip is accepted");
            stream.finish(0).expect("the clip is accepted");
            drain(&mut stream);
        });
    });
}

/// Time from the encoder's frames to words, of `iterations` chunks.
fn decoding_time<'a>(stream: &mut Stream, chunks: &mut impl Iterator<Item = &'a [f32]>, iterations: u64) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..iterations {
        let mut encoded = None;
        let samples = chunks.next().expect("the iterator is infinite");
        let mut observe = |_: &nemostt::chunker::Window<'_>, _: &[f32]| encoded = Some(Instant::now());
        stream
            .accept_observed(samples, &mut observe)
            .expect("the clip is accepted");
        total += encoded.map_or(Duration::ZERO, |encoded| encoded.elapsed());
        drain(stream);
    }
    total
}

/// Everything after the encoder in a chunk: logits, tokens and words. Time is taken from when the observer is called
/// with the encoder's frames.
fn decoder(criterion: &mut Criterion) {
    let speech = speech();
    let mut group = group(criterion, "decoder");
    for (name, kind) in [("rnnt", DecoderKind::Rnnt), ("ctc", DecoderKind::Ctc)] {
        for lookahead in LOOKAHEADS {
            let Some(recognizer) = recognizer(Some(lookahead), kind, 1) else {
                continue;
            };
            let config = recognizer.config();
            let chunk = (config.lookahead + 1) * config.frame_samples() as usize;
            let mut stream = recognizer.stream().expect("enough memory");
            let mut chunks = speech.chunks_exact(chunk).cycle();
            let id = BenchmarkId::new(name, format!("{lookahead} ms"));
            group.throughput(Throughput::Elements(chunk as u64));
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|iterations| decoding_time(&mut stream, &mut chunks, iterations));
            });
        }
    }
    group.finish();
}

/// The whole clip with lists of phrases of different length. Their words are made of the tokens of the model, so that many
/// begin as words in the clip do.
fn boosting(criterion: &mut Criterion) {
    let speech = speech();
    let mut group = group(criterion, "boosting");
    for (name, kind) in [("rnnt", DecoderKind::Rnnt), ("ctc", DecoderKind::Ctc)] {
        let Some(recognizer) = recognizer(None, kind, 1) else {
            continue;
        };
        let texts: Vec<&str> = (0..recognizer.config().vocabulary_size)
            .filter_map(|id| match recognizer.piece(id) {
                Some(TokenText::Text(text)) => Some(text.trim_start_matches('\u{2581}')),
                _ => None,
            })
            .filter(|text| !text.is_empty())
            .collect();
        for count in [0, 10, 1_000, 10_000] {
            let mut hotwords = Hotwords::default();
            for number in 0..count {
                // Different for all numbers up to the third power of the number of tokens.
                let token = |place: usize| texts[number / texts.len().pow(place as u32) % texts.len()];
                let phrase = format!("{}{}{}", token(0), token(1), token(2));
                hotwords.push(&phrase, 1.0).expect("a word of three tokens");
            }
            let tree = recognizer.boosting_tree(&hotwords).expect("tokens of the model");
            let mut stream = recognizer.stream().expect("enough memory");
            stream
                .set_boosting_tree((count > 0).then_some(&tree))
                .expect("a tree of the model");
            let id = BenchmarkId::new(name, format!("{count} phrases"));
            whole_clip(&mut group, id, stream, &speech);
        }
    }
    group.finish();
}

/// What a chunk takes with greedy decoding and with beams, of a stream whose attention cache is full: encoder and decoder, and
/// the decoder alone, as in [`decoder`].
fn beam(criterion: &mut Criterion) {
    let speech = speech();
    let mut group = group(criterion, "beam");
    for (name, kind) in [("rnnt", DecoderKind::Rnnt), ("ctc", DecoderKind::Ctc)] {
        let Some(recognizer) = recognizer(Some(80), kind, 1) else {
            continue;
        };
        let config = recognizer.config();
        let chunk = (config.lookahead + 1) * config.frame_samples() as usize;
        for size in [0, 4, 8] {
            let mut stream = recognizer.stream().expect("enough memory");
            let method = match size {
                0 => DecodingMethod::Greedy,
                size => DecodingMethod::Beam(BeamConfig {
                    size,
                    ..Default::default()
                }),
            };
            stream.set_decoding_method(&method).expect("a method of the model");
            // As the element with its defaults, so that hypotheses do not pile up.
            stream.set_endpoint_config(EndpointConfig {
                word: Some(4),
                utterance: Some(10),
                longest_word: Some(25),
                ..Default::default()
            });
            stream.accept(&speech).expect("the clip is accepted");
            drain(&mut stream);
            let label = if size == 0 {
                "greedy".into()
            } else {
                format!("beam {size}")
            };
            group.throughput(Throughput::Elements(chunk as u64));
            let mut chunks = speech.chunks_exact(chunk).cycle();
            group.bench_function(BenchmarkId::new(format!("{name} step"), &label), |bencher| {
                bencher.iter(|| {
                    let samples = chunks.next().expect("the iterator is infinite");
                    stream.accept(samples).expect("the clip is accepted");
                    drain(&mut stream);
                });
            });
            group.bench_function(BenchmarkId::new(format!("{name} decoder"), &label), |bencher| {
                bencher.iter_custom(|iterations| decoding_time(&mut stream, &mut chunks, iterations));
            });
        }
    }
    group.finish();
}

fn end_to_end(criterion: &mut Criterion) {
    let speech = speech();
    let mut group = group(criterion, "end_to_end");
    for threads in [1, 2] {
        for lookahead in LOOKAHEADS {
            if let Some(recognizer) = recognizer(Some(lookahead), DecoderKind::Auto, threads) {
                let id = BenchmarkId::new(format!("{threads} threads"), format!("{lookahead} ms"));
                let stream = recognizer.stream().expect("enough memory");
                whole_clip(&mut group, id, stream, &speech);
            }
        }
    }
    group.finish();
}

criterion_group!(stages, front_end, encoder_step, decoder, boosting, beam, end_to_end);
criterion_main!(stages);

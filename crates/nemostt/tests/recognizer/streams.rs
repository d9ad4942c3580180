// SPDX-License-Identifier: MIT OR Apache-2.0

//! The recognizer as an application uses it: streams, buffer sizes, resets, lookaheads, corrupt files.

use std::{fs, path::Path, sync::LazyLock, thread::available_parallelism};

use crate::{
    common::{Transcript, clip, clip_s16, data, model_path, options, recognizer},
    log,
};
use nemostt::{DecoderKind, Error, Event, Options, Recognizer, Stream, text::Vocabulary};
use nemostt_compiler::{DROP_INPUT, Graph, StreamingConfig, make_drop_an_input};
use proptest::prelude::*;

/// Random weights with CTC: tokens in every chunk, so that any mistake shows.
static MANY_TOKENS: LazyLock<Recognizer> = LazyLock::new(|| recognizer("tiny_random", 1, DecoderKind::Ctc));

#[test]
fn threads_are_limited_to_processors() {
    log::start();
    let usable = available_parallelism().unwrap().get();
    let diagnostics = || {
        let limited = format!("of {} threads", usable + 3);
        log::lines().iter().filter(|line| line.contains(&limited)).count()
    };
    for (requested, lines) in [(usable, 0), (usable + 3, 1)] {
        let options = Options {
            threads: requested,
            ..options(1, DecoderKind::Rnnt)
        };
        let recognizer = Recognizer::load(model_path("tiny_random"), &options).unwrap();
        assert_eq!((recognizer.config().threads, diagnostics()), (usable, lines));
    }
}

fn graph(path: &Path) -> Graph {
    Graph::decode(fs::read(path).unwrap().into()).unwrap()
}

#[test]
fn recognizer_is_sync_and_stream_is_send() {
    fn send_sync_clone<T: Send + Sync + Clone>() {}
    fn send<T: Send>() {}
    send_sync_clone::<Recognizer>();
    send::<Stream>();
}

#[test]
fn streaming_config_is_read_from_the_graph() {
    let expected = StreamingConfig {
        mels: 80,
        layers: 6,
        d_model: 96,
        left_context: 70,
        conv_context: 8,
        chunk_frames: 14,
        drop_extra_pre_encoded: 2,
    };
    assert_eq!(
        StreamingConfig::read(&graph(&model_path("trained").join("encoder-model.onnx"))),
        Ok(expected)
    );
    assert_eq!(
        StreamingConfig::read(&graph(&model_path("trained").join("ctc.onnx"))),
        Ok(expected)
    );
    let at_80_ms = StreamingConfig::read(&graph(&data("exports/encoder-rnnt_la1.onnx"))).unwrap();
    assert_eq!((at_80_ms.chunk_frames, at_80_ms.d_model, at_80_ms.layers), (2, 64, 4));
    assert_eq!(at_80_ms.lookaheads(), [0, 1]);
}

#[test]
fn make_drop_an_input_works_once() {
    let mut graph = graph(&model_path("trained").join("encoder-model.onnx"));
    make_drop_an_input(&mut graph, None).unwrap();
    let input = graph.input(DROP_INPUT).unwrap();
    assert_eq!(input.dims, [Some(1)]);
    // The constant was removed, so it cannot be replaced again.
    assert!(make_drop_an_input(&mut graph, None).is_err());
}

#[test]
fn export_at_80_ms_matches_export_at_1040_ms_run_at_80_ms() {
    let directory = tempfile::tempdir().unwrap();
    for file in ["decoder_joint-rnnt_la13.onnx", "tokenizer.model"] {
        fs::copy(data("tiny_random").join(file), directory.path().join(file)).unwrap();
    }
    let encoder = data("exports/encoder-rnnt_la1.onnx");
    fs::copy(encoder, directory.path().join("encoder-rnnt_la1.onnx")).unwrap();
    // Without a requested lookahead, the export's own is used. The vocabulary is a SentencePiece model here.
    let own = Recognizer::load(directory.path(), &Options::default()).unwrap();
    assert_eq!(own.config().lookahead, 1);

    let wide = recognizer("tiny_random", 1, DecoderKind::Rnnt);
    for name in ["u5_eight_sentences", "e4_noise3s"] {
        let transcript = |r: &Recognizer| Transcript::of(&mut r.stream().unwrap(), &clip(name), 4_096);
        let (own, wide) = (transcript(&own), transcript(&wide));
        assert_eq!(own.token_frames(), wide.token_frames());
        assert_eq!(own.text(), wide.text());
    }
}

#[test]
fn concurrent_streams_are_independent() {
    let names = ["u1_command", "u2_digits", "u4_heldvoice", "e6_odd"];
    let recognizer = recognizer("trained", 6, DecoderKind::Rnnt);
    let sequential = names.map(|name| Transcript::of(&mut recognizer.stream().unwrap(), &clip(name), 1_600));
    let concurrent = std::thread::scope(|scope| {
        let threads = names.map(|name| {
            let mut stream = recognizer.stream().unwrap();
            scope.spawn(move || Transcript::of(&mut stream, &clip(name), 1_000))
        });
        threads.map(|thread| thread.join().unwrap())
    });
    assert_eq!(sequential, concurrent);
}

#[test]
fn reset_restores_the_initial_state() {
    let mut stream = MANY_TOKENS.stream().unwrap();
    let expected = Transcript::of(&mut stream, &clip("u1_command"), 1_600);
    assert!(expected.words.len() > 2);
    for samples in [0, 1, 399, 5_000, 20_000] {
        stream.reset();
        stream.accept(&clip("u2_digits")[..samples]).unwrap();
        stream.reset();
        assert_eq!(stream.samples(), 0);
        assert_eq!(
            Transcript::of(&mut stream, &clip("u1_command"), 1_600),
            expected,
            "{samples}"
        );
    }
}

#[test]
fn finished_stream_rejects_samples() {
    let mut stream = MANY_TOKENS.stream().unwrap();
    stream.accept(&[0.0; 100]).unwrap();
    stream.finish(0).unwrap();
    assert!(matches!(stream.accept(&[0.0]), Err(Error::Finished)));
    assert!(matches!(stream.finish(0), Err(Error::Finished)));
    stream.reset();
    stream.accept(&[0.0]).unwrap();
}

#[test]
fn invalid_sample_is_named_and_changes_nothing() {
    let mut stream = MANY_TOKENS.stream().unwrap();
    let audio = clip("u1_command");
    let mut words_with = |invalid: Option<(usize, f32)>, block: usize| {
        stream.reset();
        let mut samples = audio.clone();
        if let Some((position, value)) = invalid {
            samples[position] = value;
        }
        let mut begin = 0;
        while begin < samples.len() {
            let end = samples.len().min(begin + block);
            begin = match stream.accept(&samples[begin..end]) {
                Ok(()) => end,
                Err(Error::Sample { index, value }) => {
                    let (position, invalid) = invalid.unwrap();
                    assert_eq!((index, value.to_bits()), (position as u64, invalid.to_bits()));
                    assert_eq!(stream.samples(), index);
                    samples[position] = audio[position];
                    position
                }
                Err(error) => panic!("{error}"),
            };
        }
        stream.finish(0).unwrap();
        let words = std::iter::from_fn(|| stream.next_event()).filter_map(|event| match event {
            Event::Word(word) => Some(word.text),
            _ => None,
        });
        assert_eq!(samples, audio);
        words.collect::<Vec<_>>()
    };
    let expected = words_with(None, 1_600);
    assert!(expected.len() > 2);
    let beyond = Stream::MAX_SAMPLE * 1.01;
    for invalid in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -beyond] {
        for position in [0, 1, 4_321, audio.len() - 1] {
            for block in [1, 1_600, audio.len()] {
                let words = words_with(Some((position, invalid)), block);
                assert_eq!(words, expected, "{invalid} at {position}, blocks of {block}");
            }
        }
    }
    // The largest valid samples give frames that are numbers.
    stream.reset();
    let loud: Vec<f32> = (0..40_000)
        .map(|n| Stream::MAX_SAMPLE * (1 - n % 2 * 2) as f32)
        .collect();
    stream.accept(&loud).unwrap();
    stream.accept(&audio).unwrap();
    stream.finish(0).unwrap();
}

#[test]
fn accept_s16_matches_accept() {
    let mut stream = MANY_TOKENS.stream().unwrap();
    let expected = Transcript::of(&mut stream, &clip("u1_command"), 1_600);
    stream.reset();
    let mut transcript = Transcript::default();
    stream.accept_s16(clip_s16("u1_command")).unwrap();
    stream.finish(0).unwrap();
    transcript.collect(&mut stream);
    assert_eq!(transcript, expected);
}

#[test]
fn words_do_not_begin_before_stable_until() {
    let mut stream = MANY_TOKENS.stream().unwrap();
    let mut transcript = Transcript::default();
    for block in clip("u3_long").chunks(160) {
        let stable_until = stream.stable_until();
        assert!(stable_until <= stream.samples());
        stream.accept(block).unwrap();
        let before = transcript.words.len();
        transcript.collect(&mut stream);
        for word in &transcript.words[before..] {
            assert!(word.start >= stable_until, "{word:?} after {stable_until}");
        }
    }
}

#[test]
fn padding_keeps_words_within_the_audio() {
    let recognizer = recognizer("trained", 13, DecoderKind::Rnnt);
    for name in ["e1_clip300ms", "e6_odd", "u1_command"] {
        let samples = clip(name);
        let tokens = |padding| {
            let mut stream = recognizer.stream().unwrap();
            let mut transcript = Transcript::default();
            stream.accept(&samples).unwrap();
            stream.finish(padding).unwrap();
            transcript.collect(&mut stream);
            let end = samples.len() as u64;
            assert!(
                transcript
                    .words
                    .iter()
                    .all(|word| word.start < word.end && word.end <= end),
                "{transcript:?}"
            );
            transcript.tokens.len()
        };
        println!(
            "{name}: {} tokens without padding, {} with 1 s",
            tokens(0),
            tokens(16_000)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn any_buffer_sizes_give_the_same_events(cuts in prop::collection::vec(1_usize..20_000, 1..10)) {
        static EXPECTED: LazyLock<Transcript> =
            LazyLock::new(|| Transcript::of(&mut MANY_TOKENS.stream().unwrap(), &clip("u4_heldvoice"), 1 << 20));
        let samples = clip("u4_heldvoice");
        let mut stream = MANY_TOKENS.stream().unwrap();
        let mut transcript = Transcript::default();
        let mut rest = &samples[..];
        for cut in cuts.iter().cycle() {
            let (block, after) = rest.split_at((*cut).min(rest.len()));
            stream.accept(block).unwrap();
            transcript.collect(&mut stream);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        stream.finish(0).unwrap();
        transcript.collect(&mut stream);
        prop_assert_eq!(&transcript, &*EXPECTED);
    }

    #[test]
    fn vocabulary_parser_does_not_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        name in prop::sample::select(vec!["tokens.txt", "vocab.txt", "tokenizer.model"]),
    ) {
        let _ = Vocabulary::parse(name, &bytes, 3);
    }

    #[test]
    fn graph_loader_does_not_panic_on_corrupt_graphs(
        flips in prop::collection::vec((0_usize..2_100_000, any::<u8>()), 1..6),
    ) {
        static ENCODER: LazyLock<Vec<u8>> =
            LazyLock::new(|| fs::read(data("tiny_random/encoder-rnnt_la13.onnx")).unwrap());
        let mut bytes = ENCODER.clone();
        for (at, value) in flips {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        if let Ok(mut graph) = Graph::decode(bytes.into()) {
            let _ = StreamingConfig::read(&graph);
            let _ = make_drop_an_input(&mut graph, None);
        }
    }
}

#[test]
fn options_are_reflected_in_the_config() {
    let recognizer = Recognizer::load(model_path("trained"), &options(6, DecoderKind::Ctc)).unwrap();
    let config = recognizer.config();
    assert_eq!(
        (config.lookahead, config.decoder, config.vocabulary_size),
        (6, DecoderKind::Ctc, 128)
    );
    assert_eq!(config.frame_samples(), 1_280);
    assert_eq!(config.latency_samples(), 7 * 1_280 + 200);
}

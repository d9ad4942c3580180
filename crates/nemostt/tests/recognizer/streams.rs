// SPDX-License-Identifier: MIT OR Apache-2.0

//! The recogniser as an application uses it: streams, cuts, resets, lookaheads, broken files.

use std::{fs, path::Path, sync::LazyLock, thread::available_parallelism};

use crate::{
    common::{Heard, clip, clip_s16, data, model_path, options, recognizer},
    log,
};
use nemostt::{DecoderKind, Error, Options, Recognizer, Stream, text::Vocabulary};
use nemostt_compiler::{DROP_INPUT, Graph, StreamingConfig, make_drop_an_input};
use proptest::prelude::*;

/// Random weights with CTC: labels in every chunk, so that any slip shows.
static CHATTY: LazyLock<Recognizer> = LazyLock::new(|| recognizer("tiny_random", 1, DecoderKind::Ctc));

#[test]
fn no_more_threads_are_taken_than_processors_and_the_log_says_so() {
    log::start();
    let usable = available_parallelism().unwrap().get();
    let diagnostics = || {
        let cut = format!("of {} threads", usable + 3);
        log::lines().iter().filter(|line| line.contains(&cut)).count()
    };
    for (asked, lines) in [(usable, 0), (usable + 3, 1)] {
        let options = Options {
            threads: asked,
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
fn recognizers_are_shared_between_threads_and_streams_move() {
    fn shared<T: Send + Sync + Clone>() {}
    fn moves<T: Send>() {}
    shared::<Recognizer>();
    moves::<Stream>();
}

#[test]
fn the_numbers_of_a_graph_are_read_from_it() {
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
fn the_drop_becomes_an_input_once() {
    let mut graph = graph(&model_path("trained").join("encoder-model.onnx"));
    make_drop_an_input(&mut graph, None).unwrap();
    let input = graph.input(DROP_INPUT).unwrap();
    assert_eq!(input.dims, [Some(1)]);
    // The constant is gone, so it cannot be replaced again.
    assert!(make_drop_an_input(&mut graph, None).is_err());
}

#[test]
fn an_export_at_80_ms_gives_what_the_one_at_1040_ms_gives_at_80() {
    let directory = tempfile::tempdir().unwrap();
    for file in ["decoder_joint-rnnt_la13.onnx", "tokenizer.model"] {
        fs::copy(data("tiny_random").join(file), directory.path().join(file)).unwrap();
    }
    let encoder = data("exports/encoder-rnnt_la1.onnx");
    fs::copy(encoder, directory.path().join("encoder-rnnt_la1.onnx")).unwrap();
    // No lookahead asked for: the export's own. The vocabulary is SentencePiece's file this time.
    let own = Recognizer::load(directory.path(), &Options::default()).unwrap();
    assert_eq!(own.config().lookahead, 1);

    let wide = recognizer("tiny_random", 1, DecoderKind::Rnnt);
    for name in ["u5_eight_sentences", "e4_noise3s"] {
        let heard = |r: &Recognizer| Heard::all(&mut r.stream().unwrap(), &clip(name), 4_096);
        let (own, wide) = (heard(&own), heard(&wide));
        assert_eq!(own.labels(), wide.labels());
        assert_eq!(own.text(), wide.text());
    }
}

#[test]
fn streams_of_one_recognizer_do_not_disturb_each_other() {
    let names = ["u1_command", "u2_digits", "u4_heldvoice", "e6_odd"];
    let recognizer = recognizer("trained", 6, DecoderKind::Rnnt);
    let alone = names.map(|name| Heard::all(&mut recognizer.stream().unwrap(), &clip(name), 1_600));
    let together = std::thread::scope(|scope| {
        let threads = names.map(|name| {
            let mut stream = recognizer.stream().unwrap();
            scope.spawn(move || Heard::all(&mut stream, &clip(name), 1_000))
        });
        threads.map(|thread| thread.join().unwrap())
    });
    assert_eq!(alone, together);
}

#[test]
fn a_reset_stream_is_as_new_wherever_it_was() {
    let mut stream = CHATTY.stream().unwrap();
    let expected = Heard::all(&mut stream, &clip("u1_command"), 1_600);
    assert!(expected.words.len() > 2);
    for samples in [0, 1, 399, 5_000, 20_000] {
        stream.reset();
        stream.accept(&clip("u2_digits")[..samples]).unwrap();
        stream.reset();
        assert_eq!(stream.samples(), 0);
        assert_eq!(
            Heard::all(&mut stream, &clip("u1_command"), 1_600),
            expected,
            "{samples}"
        );
    }
}

#[test]
fn a_finished_stream_takes_no_more() {
    let mut stream = CHATTY.stream().unwrap();
    stream.accept(&[0.0; 100]).unwrap();
    stream.finish(0).unwrap();
    assert!(matches!(stream.accept(&[0.0]), Err(Error::Finished)));
    assert!(matches!(stream.finish(0), Err(Error::Finished)));
    stream.reset();
    stream.accept(&[0.0]).unwrap();
}

#[test]
fn sixteen_bit_samples_are_the_same_samples() {
    let mut stream = CHATTY.stream().unwrap();
    let expected = Heard::all(&mut stream, &clip("u1_command"), 1_600);
    stream.reset();
    let mut heard = Heard::default();
    stream.accept_s16(clip_s16("u1_command")).unwrap();
    stream.finish(0).unwrap();
    heard.take(&mut stream);
    assert_eq!(heard, expected);
}

#[test]
fn nothing_settles_before_it_is_said() {
    let mut stream = CHATTY.stream().unwrap();
    let mut heard = Heard::default();
    for piece in clip("u3_long").chunks(160) {
        let settled = stream.stable_until();
        assert!(settled <= stream.samples());
        stream.accept(piece).unwrap();
        let before = heard.words.len();
        heard.take(&mut stream);
        for word in &heard.words[before..] {
            assert!(word.start >= settled, "{word:?} after {settled}");
        }
    }
}

#[test]
fn silence_at_the_end_only_adds() {
    let recognizer = recognizer("trained", 13, DecoderKind::Rnnt);
    for name in ["e1_clip300ms", "e6_odd", "u1_command"] {
        let samples = clip(name);
        let labels = |padding| {
            let mut stream = recognizer.stream().unwrap();
            let mut heard = Heard::default();
            stream.accept(&samples).unwrap();
            stream.finish(padding).unwrap();
            heard.take(&mut stream);
            let end = samples.len() as u64;
            assert!(
                heard.words.iter().all(|word| word.start < word.end && word.end <= end),
                "{heard:?}"
            );
            heard.tokens.len()
        };
        println!(
            "{name}: {} labels without silence, {} with 1 s of it",
            labels(0),
            labels(16_000)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn any_cut_gives_the_same_events(cuts in prop::collection::vec(1_usize..20_000, 1..10)) {
        static EXPECTED: LazyLock<Heard> =
            LazyLock::new(|| Heard::all(&mut CHATTY.stream().unwrap(), &clip("u4_heldvoice"), 1 << 20));
        let samples = clip("u4_heldvoice");
        let mut stream = CHATTY.stream().unwrap();
        let mut heard = Heard::default();
        let mut rest = &samples[..];
        for cut in cuts.iter().cycle() {
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            stream.accept(piece).unwrap();
            heard.take(&mut stream);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        stream.finish(0).unwrap();
        heard.take(&mut stream);
        prop_assert_eq!(&heard, &*EXPECTED);
    }

    #[test]
    fn no_vocabulary_file_makes_the_parser_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        name in prop::sample::select(vec!["tokens.txt", "vocab.txt", "tokenizer.model"]),
    ) {
        let _ = Vocabulary::parse(name, &bytes, 3);
    }

    #[test]
    fn no_damage_to_a_graph_makes_the_loader_panic(flips in prop::collection::vec((0_usize..2_100_000, any::<u8>()), 1..6)) {
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
fn options_that_are_asked_for_are_in_the_config() {
    let recognizer = Recognizer::load(model_path("trained"), &options(6, DecoderKind::Ctc)).unwrap();
    let config = recognizer.config();
    assert_eq!(
        (config.lookahead, config.decoder, config.labels),
        (6, DecoderKind::Ctc, 128)
    );
    assert_eq!(config.frame_samples(), 1_280);
    assert_eq!(config.latency_samples(), 7 * 1_280 + 200);
}

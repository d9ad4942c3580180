// SPDX-License-Identifier: MIT OR Apache-2.0

//! Multilingual encoders as programs: the language is an input of each stream.

use std::path::PathBuf;

use nemostt::{DecoderKind, GraphOptimization, Options, Recognizer, Snapshot, Stream};
use nemostt_compiler::fuzzing::with_small_matmuls;

use crate::{
    batches::check_with,
    checkpoints::transcribe,
    common::{Goldens, Transcript, clip, data, options},
    log,
};

const LANGUAGES: [(&str, u32); 3] = [("en-US", 0), ("de-DE", 9), ("auto", 101)];

fn path() -> PathBuf {
    data("kinds/nemotron_multi")
}

/// The encoder as a program, as those of large models run; in a session on processors without kernels.
fn load(options: &Options) -> Recognizer {
    log::start();
    let recognizer = with_small_matmuls(|| Recognizer::load(path(), options)).unwrap();
    match nemostt_kernels::gemm::is_supported() {
        true => assert!(recognizer.parallel_streams() > 1, "{:?}", reasons()),
        false => eprintln!("NOT TESTED on this processor: encoders as programs"),
    }
    recognizer
}

/// What the log says of encoders that do not run as programs.
fn reasons() -> Vec<String> {
    let lines = log::lines();
    let reasons = lines.iter().filter(|line| line.contains("streams are not batched"));
    reasons.cloned().collect()
}

#[test]
fn program_matches_nemo_in_each_language() {
    let mut goldens = Goldens::open("kinds/nemotron_multi/goldens");
    for lookahead in [0, 1, 3, 6, 13] {
        let recognizer = load(&options(lookahead, DecoderKind::Rnnt));
        for clip in ["u1_command", "u2_digits"] {
            for (language, prompt) in LANGUAGES {
                let key = format!("{clip}/k{lookahead}/p{prompt}");
                let mut stream = recognizer.stream().unwrap();
                stream.set_language(language).unwrap();
                let (transcript, worst) = transcribe(&mut stream, clip, &goldens.encoder_at(&key));
                assert!(worst < 1e-5, "{key}: encoder off by {worst}");
                assert_eq!(transcript.token_frames(), goldens.tokens_at(&key), "{key}");
            }
        }
    }
}

/// With changes of the language at any time.
#[test]
fn streams_of_different_languages_do_not_depend_on_each_other() {
    for (lookahead, threads) in [(1, 2), (13, 1)] {
        let recognizer = load(&Options {
            threads,
            lanes: Some(1),
            ..options(lookahead, DecoderKind::Rnnt)
        });
        check_with(&recognizer, 8, 40, |alone, together| {
            assert!(alone == together, "it differs");
        });
    }
}

/// Outputs of the encoder, and tokens with their frames.
type Results = (Vec<f32>, Vec<(usize, u64)>);

/// A clip, of which the second half is in another language, if `changes`. After `snapshot`, a snapshot is restored into the
/// stream, which was in a third language meanwhile.
fn results(stream: &mut Stream, changes: bool, snapshot: bool) -> Results {
    let speech = clip("u2_digits");
    let (first, second) = speech.split_at(speech.len() / 2);
    let mut outputs = Vec::new();
    let mut keep = |_: &nemostt::chunker::Window<'_>, values: &[f32]| outputs.extend_from_slice(values);
    stream.set_language("en-US").unwrap();
    stream.accept_observed(first, &mut keep).unwrap();
    if changes {
        stream.set_language("de-DE").unwrap();
    }
    if snapshot {
        let mut saved = Snapshot::default();
        stream.save(&mut saved);
        stream.set_language("auto").unwrap();
        stream.accept(&speech).unwrap();
        stream.restore(&saved).unwrap();
    }
    stream.accept_observed(second, &mut keep).unwrap();
    stream.finish_observed(0, &mut keep).unwrap();
    let mut transcript = Transcript::default();
    transcript.collect(stream);
    (outputs, transcript.token_frames())
}

#[test]
fn language_changes_within_a_stream() {
    let options = options(1, DecoderKind::Rnnt);
    let exported = Options {
        graph_optimization: GraphOptimization::None,
        ..options.clone()
    };
    let exported = Recognizer::load(path(), &exported).unwrap();
    let program = load(&options);
    let [unchanged, changed] = [false, true].map(|changes| {
        let expected = results(&mut exported.stream().unwrap(), changes, false);
        let got = results(&mut program.stream().unwrap(), changes, false);
        let worst = expected.0.iter().zip(&got.0).map(|(a, b)| (a - b).abs());
        let worst = worst.fold(0.0, f32::max);
        assert!(got.0.len() == expected.0.len() && worst < 1e-5, "off by {worst}");
        assert_eq!(got.1, expected.1);
        // A snapshot has the language.
        assert!(results(&mut program.stream().unwrap(), changes, true) == got);
        got
    });
    // Only what was computed after the change.
    let same = unchanged.0.iter().zip(&changed.0).take_while(|(a, b)| a == b).count();
    assert!(
        same > 0 && same < changed.0.len() / 2 + 96,
        "{same} of {}",
        changed.0.len()
    );
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The cache of compiled encoders: starts with it give the same results as starts without, whatever the cache contains.

mod damage;
mod random_damage;
mod starts;

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    common::{Transcript, clip, data, model_path},
    log,
};
use nemostt::{Cache, CacheDirectory, DecoderKind, GraphOptimization, Options, PrecisionChoice, Recognizer};

/// Options that cache every model in `directory`, however small. Int8, because that is cached on every CPU.
fn caching_options(directory: &Path) -> Options {
    Options {
        precision: PrecisionChoice::Int8,
        cache: Cache {
            directory: CacheDirectory::At(directory.into()),
            smallest: 0,
            size: None,
        },
        ..crate::common::options(1, DecoderKind::Rnnt)
    }
}

/// Encoder outputs and transcript of a clip; compared bit by bit.
#[derive(Debug, PartialEq)]
struct Transcription {
    outputs: Vec<f32>,
    transcript: Transcript,
}

fn transcribe(model: &Path, options: &Options) -> Transcription {
    log::start();
    let recognizer = Recognizer::load(model, options).unwrap();
    let mut stream = recognizer.stream().unwrap();
    let mut outputs = Vec::new();
    let mut observe = |_: &nemostt::chunker::Window<'_>, output: &[f32]| outputs.extend_from_slice(output);
    stream.accept_observed(&clip("u2_digits"), &mut observe).unwrap();
    stream.finish_observed(0, &mut observe).unwrap();
    let mut transcript = Transcript::default();
    transcript.collect(&mut stream);
    Transcription { outputs, transcript }
}

/// The same without a cache.
fn transcribe_uncached(model: &Path, options: &Options) -> Transcription {
    let mut options = options.clone();
    options.cache.directory = CacheDirectory::Off;
    transcribe(model, &options)
}

/// The files in a directory; none if it does not exist.
fn files(directory: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(directory).into_iter().flatten();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

/// The only entry of a cache.
fn entry(directory: &Path) -> PathBuf {
    let files = files(directory);
    assert_eq!(files.len(), 1, "{files:?}");
    assert!(
        files[0].extension().is_some_and(|extension| extension == "graph"),
        "{files:?}"
    );
    files[0].clone()
}

/// Number of log lines that contain `text` and `path`.
fn logged(text: &str, path: &Path) -> usize {
    let path = path.display().to_string();
    let log = log::lines();
    log.iter()
        .filter(|line| line.contains(text) && line.contains(&path))
        .count()
}

fn hits(directory: &Path) -> usize {
    logged("was read from the cache", directory)
}

/// Copies the demo model to `directory`.
fn copy_model(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    for file in files(&model_path("trained")) {
        fs::copy(&file, directory.join(file.file_name().unwrap())).unwrap();
    }
}

#[test]
fn second_start_transcribes_the_same() {
    // Custom operators need these instructions.
    #[cfg(target_arch = "x86_64")]
    let is_supported = std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    let is_supported = false;
    use DecoderKind::{Ctc, Rnnt};
    for (model, decoder) in [
        (model_path("trained"), Rnnt),
        (model_path("trained"), Ctc),
        (data("tiny_random"), Rnnt),
        (data("layouts/sherpa"), Rnnt),
        (data("layouts/sherpa_ctc"), Ctc),
        // Weights in a file next to the graph.
        (data("layouts/genai"), Rnnt),
    ] {
        for precision in [PrecisionChoice::Fp32, PrecisionChoice::Int8] {
            let directory = tempfile::tempdir().unwrap();
            let options = Options {
                lookahead: None,
                decoder,
                precision,
                ..caching_options(directory.path())
            };
            let expected = transcribe_uncached(&model, &options);
            assert!(expected.outputs.len() > 1000);
            assert_eq!(files(directory.path()), [] as [PathBuf; 0]);
            for start in 0..3 {
                let transcription = transcribe(&model, &options);
                assert!(
                    transcription == expected,
                    "{}, {precision:?}, start {start}",
                    model.display()
                );
            }
            if precision == PrecisionChoice::Int8 || is_supported {
                assert_eq!(hits(directory.path()), 2, "{}, {precision:?}", model.display());
                entry(directory.path());
            }
        }
    }
}

#[test]
fn uncompiled_model_is_not_cached() {
    for model in ["sherpa_int8", "fp16"] {
        let directory = tempfile::tempdir().unwrap();
        let model = data("layouts").join(model);
        let options = caching_options(directory.path());
        assert!(transcribe(&model, &options) == transcribe_uncached(&model, &options));
        assert_eq!(files(directory.path()), [] as [PathBuf; 0]);
    }
}

#[test]
fn every_graph_variant_has_its_own_entry() {
    let place = tempfile::tempdir().unwrap();
    let (directory, model) = (place.path().join("cache"), place.path().join("model"));
    copy_model(&model);
    let options = caching_options(&directory);
    transcribe(&model, &options);
    let adds_entry = |model: &Path, options: &Options| {
        let before = files(&directory).len();
        let transcription = transcribe(model, options);
        assert_eq!(files(&directory).len(), before + 1);
        transcription
    };
    let larger = Options {
        lookahead: Some(1040),
        ..options.clone()
    };
    adds_entry(&model, &larger);
    adds_entry(
        &model,
        &Options {
            decoder: DecoderKind::Ctc,
            ..options.clone()
        },
    );
    adds_entry(&model_path("tiny_random"), &options);

    // The same model in another directory has the same entry.
    let count = files(&directory).len();
    let moved = place.path().join("moved");
    fs::rename(&model, &moved).unwrap();
    let before = transcribe(&moved, &options);
    assert_eq!((files(&directory).len(), hits(&directory)), (count, 1));
    // Change some weights.
    let graph = moved.join("encoder-model.onnx");
    let mut bytes = fs::read(&graph).unwrap();
    let middle = bytes.len() / 2 / 4 * 4;
    for byte in &mut bytes[middle..middle + 64] {
        *byte ^= 1;
    }
    fs::write(&graph, bytes).unwrap();
    let after = adds_entry(&moved, &options);
    assert!(after == transcribe_uncached(&moved, &options));
    assert!(after != before);
}

#[test]
fn caching_can_be_disabled() {
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("kept");
    let options = caching_options(&cache);
    let with = |change: fn(&mut Options)| {
        let mut options = options.clone();
        change(&mut options);
        options
    };
    for options in [
        with(|options| options.cache.directory = CacheDirectory::Off),
        with(|options| options.cache.smallest = Cache::default().smallest),
        with(|options| options.cache.size = Some(1000)),
        with(|options| options.graph_optimization = GraphOptimization::None),
    ] {
        transcribe(&model_path("trained"), &options);
        assert_eq!(files(&cache), [] as [PathBuf; 0], "{options:?}");
    }
    transcribe(&model_path("trained"), &options);
    entry(&cache);
}

#[test]
fn smallest_limits_by_encoder_size() {
    let place = tempfile::tempdir().unwrap();
    let (directory, model) = (place.path().join("cache"), place.path().join("model"));
    copy_model(&model);
    let mut options = caching_options(&directory);
    // Only the encoder's graph counts.
    options.cache.smallest = fs::metadata(model.join("encoder-model.onnx")).unwrap().len() + 1;
    transcribe(&model, &options);
    assert_eq!(files(&directory), [] as [PathBuf; 0]);
    options.cache.smallest -= 1;
    transcribe(&model, &options);
    entry(&directory);
}

#[test]
fn oldest_entry_is_evicted() {
    let directory = tempfile::tempdir().unwrap();
    let options = caching_options(directory.path());
    transcribe(&model_path("trained"), &options);
    let first = entry(directory.path());
    let mut small = Options {
        lookahead: Some(480),
        ..options
    };
    let bytes = fs::metadata(&first).unwrap().len();
    small.cache.size = Some(bytes + bytes / 2);
    transcribe(&model_path("trained"), &small);
    assert_ne!(entry(directory.path()), first);
    let second = transcribe(&model_path("trained"), &small);
    assert!(second == transcribe_uncached(&model_path("trained"), &small));
    assert_eq!(hits(directory.path()), 1);
}

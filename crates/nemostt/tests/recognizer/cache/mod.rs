// SPDX-License-Identifier: MIT OR Apache-2.0

//! Encoders that were kept: a start with them gives what a start without gives, whatever lies in the cache.

mod damage;
mod random_damage;
mod starts;

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    common::{Heard, clip, data, model_path},
    log,
};
use nemostt::{Cache, CacheDirectory, DecoderKind, GraphOptimization, Options, PrecisionChoice, Recognizer};

/// Options that keep every model in `directory`, however small it is. Int8, because it is kept on every processor.
fn keeping(directory: &Path) -> Options {
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

/// What a model says, to the bit.
#[derive(Debug, PartialEq)]
struct Said {
    outputs: Vec<f32>,
    heard: Heard,
}

fn say(model: &Path, options: &Options) -> Said {
    log::start();
    let recognizer = Recognizer::load(model, options).unwrap();
    let mut stream = recognizer.stream().unwrap();
    let mut outputs = Vec::new();
    let mut keep = |_: &nemostt::chunker::Window<'_>, output: &[f32]| outputs.extend_from_slice(output);
    stream.accept_observed(&clip("u2_digits"), &mut keep).unwrap();
    stream.finish_observed(0, &mut keep).unwrap();
    let mut heard = Heard::default();
    heard.take(&mut stream);
    Said { outputs, heard }
}

/// What it says without a cache.
fn say_alone(model: &Path, options: &Options) -> Said {
    let mut options = options.clone();
    options.cache.directory = CacheDirectory::Off;
    say(model, &options)
}

/// The files in a directory, which may not be there.
fn files(directory: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(directory).into_iter().flatten();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

/// The one entry of a cache.
fn entry(directory: &Path) -> PathBuf {
    let files = files(directory);
    assert_eq!(files.len(), 1, "{files:?}");
    assert!(
        files[0].extension().is_some_and(|extension| extension == "graph"),
        "{files:?}"
    );
    files[0].clone()
}

/// How many lines of the log hold `what` and the name of `place`.
fn logged(what: &str, place: &Path) -> usize {
    let place = place.display().to_string();
    let log = log::lines();
    log.iter()
        .filter(|line| line.contains(what) && line.contains(&place))
        .count()
}

fn hits(directory: &Path) -> usize {
    logged("was prepared before", directory)
}

/// A copy of the demonstration model.
fn copy_of_model(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    for file in files(&model_path("trained")) {
        fs::copy(&file, directory.join(file.file_name().unwrap())).unwrap();
    }
}

#[test]
fn a_second_start_says_the_same() {
    // Our own operations are for these.
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
        // Weights beside the graph.
        (data("layouts/genai"), Rnnt),
    ] {
        for precision in [PrecisionChoice::Fp32, PrecisionChoice::Int8] {
            let directory = tempfile::tempdir().unwrap();
            let options = Options {
                lookahead: None,
                decoder,
                precision,
                ..keeping(directory.path())
            };
            let expected = say_alone(&model, &options);
            assert!(expected.outputs.len() > 1000);
            assert_eq!(files(directory.path()), [] as [PathBuf; 0]);
            for start in 0..3 {
                let said = say(&model, &options);
                assert!(said == expected, "{}, {precision:?}, start {start}", model.display());
            }
            if precision == PrecisionChoice::Int8 || is_supported {
                assert_eq!(hits(directory.path()), 2, "{}, {precision:?}", model.display());
                entry(directory.path());
            }
        }
    }
}

#[test]
fn what_is_read_anyway_is_not_kept() {
    for model in ["sherpa_int8", "fp16"] {
        let directory = tempfile::tempdir().unwrap();
        let model = data("layouts").join(model);
        let options = keeping(directory.path());
        assert!(say(&model, &options) == say_alone(&model, &options));
        assert_eq!(files(directory.path()), [] as [PathBuf; 0]);
    }
}

#[test]
fn whatever_makes_another_graph_has_an_entry_of_its_own() {
    let place = tempfile::tempdir().unwrap();
    let (directory, model) = (place.path().join("cache"), place.path().join("model"));
    copy_of_model(&model);
    let options = keeping(&directory);
    say(&model, &options);
    let one_more = |model: &Path, options: &Options| {
        let before = files(&directory).len();
        let said = say(model, options);
        assert_eq!(files(&directory).len(), before + 1);
        said
    };
    let larger = Options {
        lookahead: Some(1040),
        ..options.clone()
    };
    one_more(&model, &larger);
    one_more(
        &model,
        &Options {
            decoder: DecoderKind::Ctc,
            ..options.clone()
        },
    );
    one_more(&model_path("tiny_random"), &options);

    // The same model elsewhere, and on other threads, is the same.
    let count = files(&directory).len();
    let moved = place.path().join("moved");
    fs::rename(&model, &moved).unwrap();
    let before = say(&moved, &options);
    assert_eq!((files(&directory).len(), hits(&directory)), (count, 1));
    // Some weights are others.
    let graph = moved.join("encoder-model.onnx");
    let mut bytes = fs::read(&graph).unwrap();
    let middle = bytes.len() / 2 / 4 * 4;
    for byte in &mut bytes[middle..middle + 64] {
        *byte ^= 1;
    }
    fs::write(&graph, bytes).unwrap();
    let after = one_more(&moved, &options);
    assert!(after == say_alone(&moved, &options));
    assert!(after != before);
}

#[test]
fn nothing_is_kept_where_nothing_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let kept = directory.path().join("kept");
    let options = keeping(&kept);
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
        say(&model_path("trained"), &options);
        assert_eq!(files(&kept), [] as [PathBuf; 0], "{options:?}");
    }
    say(&model_path("trained"), &options);
    entry(&kept);
}

#[test]
fn a_model_of_this_size_is_kept() {
    let place = tempfile::tempdir().unwrap();
    let (directory, model) = (place.path().join("cache"), place.path().join("model"));
    copy_of_model(&model);
    let mut options = keeping(&directory);
    // The encoder's graph alone counts.
    options.cache.smallest = fs::metadata(model.join("encoder-model.onnx")).unwrap().len() + 1;
    say(&model, &options);
    assert_eq!(files(&directory), [] as [PathBuf; 0]);
    options.cache.smallest -= 1;
    say(&model, &options);
    entry(&directory);
}

#[test]
fn the_oldest_goes_when_there_is_no_room() {
    let directory = tempfile::tempdir().unwrap();
    let options = keeping(directory.path());
    say(&model_path("trained"), &options);
    let first = entry(directory.path());
    let mut small = Options {
        lookahead: Some(480),
        ..options
    };
    let bytes = fs::metadata(&first).unwrap().len();
    small.cache.size = Some(bytes + bytes / 2);
    say(&model_path("trained"), &small);
    assert_ne!(entry(directory.path()), first);
    let second = say(&model_path("trained"), &small);
    assert!(second == say_alone(&model_path("trained"), &small));
    assert_eq!(hits(directory.path()), 1);
}

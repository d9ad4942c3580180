// SPDX-License-Identifier: MIT OR Apache-2.0

//! Model files that are not regular files, or too large: pipes without a writer, endless devices, huge files. Each is
//! rejected at once by name, without allocating memory for it.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    sync::mpsc::channel,
    time::Duration,
};

use crate::common::{data, model_path};
use nemostt::{Cache, CacheDirectory, Error, Options, Recognizer};

/// An unoptimized build loads a model within a second.
const LOAD_TIMEOUT: Duration = Duration::from_secs(20);

/// A directory of links to all files of a model, as in download caches.
fn linked(model: &Path) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(model).unwrap() {
        let path = entry.unwrap().path();
        symlink(&path, directory.path().join(path.file_name().unwrap())).unwrap();
    }
    directory
}

fn load(directory: &Path, smallest: u64) -> Result<(), Error> {
    let options = Options {
        threads: 1,
        cache: Cache {
            directory: CacheDirectory::At(directory.join("cache")),
            smallest,
            size: None,
        },
        ..Default::default()
    };
    let directory = directory.to_owned();
    let (done, outcome) = channel();
    std::thread::spawn(move || done.send(Recognizer::load(directory, &options).map(drop)));
    outcome.recv_timeout(LOAD_TIMEOUT).expect("the load hangs")
}

/// Asserts that a model is rejected with `words` when `make` has replaced `file`.
fn assert_rejected(model: &Path, file: &str, words: &[&str], make: impl Fn(&Path)) {
    // With a cache, encoders are read differently.
    for smallest in [u64::MAX, 0] {
        let directory = linked(model);
        assert!(load(directory.path(), smallest).is_ok(), "links are followed");
        let path = directory.path().join(file);
        let _ = fs::remove_file(&path);
        make(&path);
        let error = load(directory.path(), smallest).unwrap_err().to_string();
        for word in words.iter().chain(&[file]) {
            assert!(error.contains(word), "{file}: \"{word}\" is not in: {error}");
        }
    }
}

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn endless(path: &Path) {
    symlink("/dev/zero", path).unwrap();
}

/// Makes a sparse file of this size.
fn sparse(bytes: u64) -> impl Fn(&Path) {
    move |path| File::create(path).unwrap().set_len(bytes).unwrap()
}

#[test]
fn pipes_and_devices_are_rejected() {
    let model = model_path("trained");
    let weights = data("layouts/genai");
    let beside = fs::read_dir(&weights).unwrap().map(|entry| entry.unwrap().file_name());
    let beside = beside.map(|name| name.into_string().unwrap());
    let beside = beside.filter(|name| name.starts_with("encoder") && !name.ends_with(".onnx"));
    let beside = beside.last().unwrap();
    for (model, file) in [
        (&model, "encoder-model.onnx"),
        (&model, "tokens.txt"),
        (&model, "nemostt.json"),
        (&weights, beside.as_str()),
    ] {
        assert_rejected(model, file, &["a named pipe", "a regular file"], pipe);
        assert_rejected(model, file, &["a device", "a regular file"], endless);
    }
}

#[test]
fn oversized_files_are_rejected() {
    let model = model_path("trained");
    for (file, bytes) in [
        ("encoder-model.onnx", 3 << 30),
        ("tokens.txt", 1 << 30),
        ("nemostt.json", 1 << 30),
    ] {
        assert_rejected(&model, file, &["at most"], sparse(bytes));
    }
    // Not too large, but not a graph.
    assert_rejected(&model, "encoder-model.onnx", &["not a usable model"], sparse(300 << 20));
}

#[test]
fn unsupported_values_are_named() {
    for (text, words) in [
        (
            r#"{"preprocessor": {"window_stride": 0.0000625}}"#,
            "preprocessor.window_stride is 0.0000625, expected 0.001 to 1",
        ),
        (
            r#"{"lookaheads": [0, 18446744073709551615]}"#,
            "lookaheads.1 is 18446744073709551615, expected 0 to 1023",
        ),
        (
            r#"{"preprocessor": {"n_fft": 0}}"#,
            "preprocessor.n_fft is 0, expected 2 to",
        ),
    ] {
        assert_rejected(&model_path("trained"), "nemostt.json", &[words], |path| {
            fs::write(path, text).unwrap()
        });
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Files of a model that are none: pipes that nobody writes to, devices that never end, files of any size. Each is refused at
//! once with its name, and no memory is taken for it.

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

/// A load takes a second at most without optimisation.
const PATIENCE: Duration = Duration::from_secs(20);

/// Links to all files of a model, as caches of downloads have them.
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
    outcome.recv_timeout(PATIENCE).expect("the load hangs")
}

/// What `make` puts in the place of `file`, which is expected to be refused with `words`.
fn refused(model: &Path, file: &str, words: &[&str], make: impl Fn(&Path)) {
    // With a cache, an encoder is read in another way.
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

/// A file that says that it is as large, and takes no room.
fn sparse(bytes: u64) -> impl Fn(&Path) {
    move |path| File::create(path).unwrap().set_len(bytes).unwrap()
}

#[test]
fn pipes_and_devices_are_refused() {
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
        refused(model, file, &["a named pipe", "a regular file"], pipe);
        refused(model, file, &["a device", "a regular file"], endless);
    }
}

#[test]
fn files_that_are_too_large_are_refused() {
    let model = model_path("trained");
    for (file, bytes) in [
        ("encoder-model.onnx", 3 << 30),
        ("tokens.txt", 1 << 30),
        ("nemostt.json", 1 << 30),
    ] {
        refused(&model, file, &["at most"], sparse(bytes));
    }
    // Not too large, but no graph.
    refused(&model, "encoder-model.onnx", &["not a usable model"], sparse(300 << 20));
}

#[test]
fn numbers_that_cannot_be_served_are_named() {
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
        refused(&model_path("trained"), "nemostt.json", &[words], |path| {
            fs::write(path, text).unwrap()
        });
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where files are written, and how existing files are handled.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    sync::{Mutex, mpsc},
    time::Duration,
};

use nemostt::{DecoderKind, Event, Options, Recognizer};

use super::{
    server::{COMMIT, Site, sha256},
    setting::{GRAPH, REPOSITORY, Setting, assert_error_contains, noise, site, stdout_of, wait_until},
};
use crate::common::{Texts, clip_s16};

fn demo_model() -> Site {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/nemostt/assets/demo-model");
    let read = |name| (name, fs::read(directory.join(name)).unwrap());
    let mut files = [
        "encoder-model.onnx",
        "decoder_joint-model.onnx",
        "ctc.onnx",
        "tokens.txt",
        "nemostt.json",
        "README.md",
    ]
    .map(read)
    .to_vec();
    files.push(("test_wavs/0.wav", noise(20_000)));
    Site::new(REPOSITORY, &files)
}

/// The recognizer's text with a model.
fn text_of(model: &Path) -> String {
    let options = Options {
        threads: 1,
        ..Default::default()
    };
    let recognizer = Recognizer::load(model, &options).unwrap();
    let mut stream = recognizer.stream().unwrap();
    stream.accept_s16(clip_s16("u5_eight_sentences")).unwrap();
    stream.finish(0).unwrap();
    let words = std::iter::from_fn(|| stream.next_event()).filter_map(|event| match event {
        Event::Word(word) => Some(word.text),
        _ => None,
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn fetched_model_transcribes() {
    let setting = Setting::new(demo_model());
    let output = setting.fetch(&[REPOSITORY]);
    let model = Path::new(stdout_of(&output));
    assert_eq!(model, setting.snapshot(""));
    let texts = Texts::open();
    assert_eq!(
        text_of(model),
        texts.get("trained", "u5_eight_sentences", 13, DecoderKind::Rnnt)
    );

    // Files that are not part of the model were not downloaded.
    assert!(!model.join("README.md").exists() && !model.join("test_wavs").exists());
    assert_eq!(fs::read_to_string(setting.cached("refs/main")).unwrap(), COMMIT);
    // Relative links to the blobs, as huggingface_hub writes them.
    let link = fs::read_link(model.join("ctc.onnx")).unwrap();
    let ctc = fs::read(model.join("ctc.onnx")).unwrap();
    assert_eq!(link, Path::new("../../blobs").join(sha256(&ctc)));
}

#[test]
fn existing_files_are_not_fetched_again() {
    let setting = Setting::new(site(&noise(50_000)));
    let first = setting.fetch(&[REPOSITORY]);
    let gets = || {
        setting
            .hub
            .requests()
            .iter()
            .filter(|request| request.method == "GET")
            .count()
    };
    let before = gets();
    assert_eq!(stdout_of(&setting.fetch(&[REPOSITORY])), stdout_of(&first));
    // Only the list of files.
    assert_eq!(gets(), before + 1);
}

#[test]
fn dir_option_writes_plain_files() {
    let graph = noise(50_000);
    let setting = Setting::new(site(&graph));
    let directory = setting.home.path().join("my/model");
    let fetch = || setting.fetch(&[REPOSITORY, "--dir", directory.to_str().unwrap()]);
    assert_eq!(stdout_of(&fetch()), directory.to_str().unwrap());
    assert_eq!(fs::read(directory.join(GRAPH)).unwrap(), graph);
    assert!(directory.join(GRAPH).symlink_metadata().unwrap().is_file());
    assert!(!setting.home.path().join("hub").exists());

    // A file that differs from the hub's is fetched again, others are not.
    fs::write(
        directory.join(GRAPH),
        noise(50_000).iter().map(|byte| byte ^ 1).collect::<Vec<u8>>(),
    )
    .unwrap();
    stdout_of(&fetch());
    assert_eq!(fs::read(directory.join(GRAPH)).unwrap(), graph);
    assert_eq!(setting.hub.ranges(GRAPH).len(), 2);

    // Two models in one directory could not be told apart when loading.
    fs::write(directory.join("other.onnx"), "").unwrap();
    assert_error_contains(&fetch(), &["other.onnx", "empty directory"]);
}

#[test]
fn folder_and_revision_can_be_selected() {
    let files = [
        ("small/encoder.onnx", noise(20_000)),
        ("small/tokens.txt", b"a 0\n".to_vec()),
        ("large/encoder.onnx", noise(30_000)),
    ];
    let setting = Setting::new(Site::new(REPOSITORY, &files));
    let output = setting.fetch(&["someone/model/small@refs/pr/1"]);
    let model = Path::new(stdout_of(&output));
    assert_eq!(model, setting.snapshot("small"));
    assert_eq!(fs::read(model.join(GRAPH)).unwrap(), noise(20_000));
    assert_eq!(fs::read_to_string(setting.cached("refs/refs/pr/1")).unwrap(), COMMIT);
    assert_error_contains(
        &setting.fetch(&[REPOSITORY]),
        &["no .onnx graph", "large, small", "OWNER/REPO/FOLDER"],
    );
}

#[test]
fn precision_option_selects_files() {
    let files = [
        ("encoder.onnx", noise(20_000)),
        ("encoder.int8.onnx", noise(15_000)),
        ("tokens.txt", b"a 0\n".to_vec()),
    ];
    let setting = Setting::new(Site::new(REPOSITORY, &files));
    let output = setting.fetch(&[REPOSITORY, "--precision=int8"]);
    assert!(!Path::new(stdout_of(&output)).join("encoder.onnx").exists());
    assert!(Path::new(stdout_of(&output)).join("encoder.int8.onnx").exists());
    assert_error_contains(
        &setting.fetch(&[REPOSITORY, "--precision=fp16"]),
        &["no fp16 graphs, only fp32, int8"],
    );
}

#[test]
fn offline_mode_uses_the_cache() {
    let setting = Setting::new(site(&noise(50_000)));
    let fetch = || {
        setting
            .command(&["fetch", REPOSITORY])
            .env("HF_HUB_OFFLINE", "1")
            .output()
            .unwrap()
    };
    assert_error_contains(&fetch(), &["someone/model is not completely in", "HF_HUB_OFFLINE"]);
    let online = setting.fetch(&[REPOSITORY]);
    let before = setting.hub.requests().len();
    assert_eq!(stdout_of(&fetch()), stdout_of(&online));
    assert_eq!(setting.hub.requests().len(), before);
    // An incomplete model is not used.
    fs::remove_file(setting.snapshot(GRAPH).canonicalize().unwrap()).unwrap();
    assert_error_contains(&fetch(), &["is not completely in"]);
}

#[test]
fn concurrent_fetches_download_once() {
    let graph = noise(300_000);
    let (second_waits, wait_for_second) = mpsc::channel();
    let wait_for_second = Mutex::new(wait_for_second);
    let setting = Setting::new(site(&graph).with(move |request, _| {
        if request.is_storage {
            wait_for_second.lock().unwrap().recv().unwrap();
        }
    }));
    let start = || setting.command(&["fetch", REPOSITORY]).spawn().unwrap();
    let first = start();
    wait_until(|| !setting.hub.ranges(GRAPH).is_empty());
    let mut second = start();
    let mut line = String::new();
    BufReader::new(second.stderr.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.contains(": waiting"), "{line}");
    second_waits.send(()).unwrap();
    for child in [first, second] {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let model = std::str::from_utf8(&output.stdout).unwrap().trim_end();
        assert_eq!(fs::read(Path::new(model).join(GRAPH)).unwrap(), graph);
    }
    assert_eq!(setting.hub.ranges(GRAPH), [None]);
}

#[test]
fn invalid_partial_file_is_replaced() {
    let graph = noise(300_000);
    for left in [vec![0; 1000], vec![0; 300_000], vec![0; 300_001]] {
        let setting = Setting::new(site(&graph));
        let partial = setting.incomplete(&graph);
        fs::create_dir_all(partial.parent().unwrap()).unwrap();
        fs::write(partial, left).unwrap();
        let output = setting.fetch(&[REPOSITORY]);
        assert_eq!(fs::read(Path::new(stdout_of(&output)).join(GRAPH)).unwrap(), graph);
    }
}

#[test]
fn killed_download_resumes() {
    let graph = noise(300_000);
    let setting = Setting::new(site(&graph).with(|request, reply| {
        if request.is_storage && request.before == 0 {
            reply.cut = Some(200_000);
            reply.stall = Duration::from_secs(60);
        }
    }));
    let mut child = setting.command(&["fetch", REPOSITORY]).spawn().unwrap();
    let partial = setting.incomplete(&graph);
    wait_until(|| fs::metadata(&partial).is_ok_and(|found| found.len() == 200_000));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!setting.snapshot("").exists());
    let output = setting.fetch(&[REPOSITORY]);
    assert_eq!(fs::read(Path::new(stdout_of(&output)).join(GRAPH)).unwrap(), graph);
    assert_eq!(
        setting.hub.ranges(GRAPH).last().unwrap().as_deref(),
        Some("bytes=200000-")
    );
    assert!(!partial.exists());
}

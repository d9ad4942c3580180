// SPDX-License-Identifier: MIT OR Apache-2.0

//! Short names, and their list.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    server::{Site, sha256},
    setting::{Setting, assert_error_contains, noise, site, stdout_of},
};

#[test]
fn short_name_fetches_the_files_of_the_catalog() {
    let repository = "csukuangfj/sherpa-onnx-nemo-streaming-fast-conformer-transducer-en-1040ms";
    let files = [
        "encoder.onnx",
        "decoder.onnx",
        "joiner.onnx",
        "tokens.txt",
        "surplus.onnx",
    ];
    let files = files.map(|name| (name, noise(name.len() * 1000)));
    let setting = Setting::new(Site::new(repository, &files));
    let output = setting.fetch(&["fastconformer-large-1040ms"]);
    let model = Path::new(stdout_of(&output));
    assert_eq!(fs::read(model.join("joiner.onnx")).unwrap(), noise(11_000));
    assert!(!model.join("surplus.onnx").exists());

    let listed = setting.command(&["models", "--json"]).output().unwrap();
    let listed: serde_json::Value = serde_json::from_str(stdout_of(&listed)).unwrap();
    let paths = |name: &str| {
        let found = listed
            .as_array()
            .unwrap()
            .iter()
            .find(|entry| entry["name"] == name)
            .unwrap();
        found["path"].as_str().map(PathBuf::from)
    };
    assert_eq!(paths("fastconformer-large-1040ms").as_deref(), Some(model));
    assert_eq!(paths("fastconformer-large-80ms"), None);
}

#[test]
fn checksum_must_match_the_catalog() {
    let repository = "csukuangfj/sherpa-onnx-nemo-streaming-fast-conformer-transducer-en-80ms-int8";
    let files = [("encoder.int8.onnx", noise(20_000))];
    let site = Site::new(repository, &files).with(|request, reply| {
        // This hub does not have the commit of the catalog.
        if request
            .path
            .contains("/resolve/3fafd319033af1c552e7bc8394f7258afdce91b0/")
        {
            reply.status = 200;
            reply.headers = vec![
                ("X-Linked-Etag".into(), format!("\"{}\"", sha256(b"another"))),
                ("X-Linked-Size".into(), "7".into()),
            ];
        }
    });
    let setting = Setting::new(site);
    let output = setting.fetch(&["fastconformer-large-80ms-int8"]);
    assert_error_contains(
        &output,
        &[
            "encoder.int8.onnx",
            &sha256(b"another"),
            "8b982c67b45e3b735d3fee49a4fea525b3149b450ba437f4c8a933f4aa6744c0",
        ],
    );
}

#[test]
fn fetched_checkpoint_prints_the_export_command() {
    let name = "stt_en_fastconformer_hybrid_medium_streaming_80ms_pc";
    let file = format!("{name}.nemo");
    let setting = Setting::new(Site::new(&format!("nvidia/{name}"), &[(&file, noise(30_000))]));
    let output = setting.fetch(&["fastconformer-medium-80ms-pc-nemo"]);
    assert!(output.status.success());
    let path = String::from_utf8(output.stdout).unwrap().trim_end().to_owned();
    assert_eq!(fs::read(&path).unwrap(), noise(30_000));
    assert!(path.ends_with(&file));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.contains(&format!("tools/export_nemo.sh {path} DIRECTORY")),
        "{errors}"
    );
}

#[test]
fn unknown_name_suggests_the_nearest() {
    let setting = Setting::new(site(b""));
    assert_error_contains(
        &setting.fetch(&["nemotron-en-480"]),
        &["nemotron-en-480ms-int8", "nemostt models"],
    );
    assert_error_contains(&setting.fetch(&["a/../b"]), &["a/../b", "OWNER/REPO"]);
    assert_error_contains(
        &setting.fetch(&["a/b", "--dir", "-"]),
        &["--dir -: expected a directory"],
    );
    assert_eq!(setting.hub.requests().len(), 0);
}

#[test]
fn models_prints_a_table() {
    let setting = Setting::new(site(b""));
    let output = setting.command(&["models"]).output().unwrap();
    let table = stdout_of(&output);
    let line = |name: &str| {
        table
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")))
            .unwrap()
    };
    for word in ["136.88 MB", "80 ms", "en", "rnnt", "no"] {
        assert!(line("fastconformer-large-80ms-int8").contains(word), "{word}");
    }
    assert!(line("fastconformer-large-80ms").contains("unknown"));
    assert!(line("nemotron-en-nemo").contains("0-1040 ms"));
    // Not a terminal: the width is always the same.
    assert!(table.lines().all(|line| line.len() <= 100), "{table}");
    assert_eq!(setting.hub.requests().len(), 0);
}

#[test]
fn verbose_lists_every_detail_of_a_model() {
    let setting = Setting::new(site(b""));
    let output = setting.command(&["models", "--verbose"]).output().unwrap();
    let text = stdout_of(&output);
    let models: Vec<&str> = text.split("\n\n").collect();
    let model = models
        .iter()
        .find(|model| model.starts_with("nemotron-en-nemo\n"))
        .unwrap();
    for detail in [
        "size         2.47 GB",
        "format       NeMo checkpoint (must be exported before use)",
        "lookahead    0, 80, 480, 1040 ms",
        "license      NVIDIA Open Model License",
        "repository   nvidia/nemotron-speech-streaming-en-0.6b",
    ] {
        assert!(model.contains(detail), "{detail}: {model}");
    }
    assert!(text.lines().all(|line| line.len() <= 100), "{text}");
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Servers that interrupt a download, reject it, or send wrong data.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use super::{
    server::{COMMIT, Reply, Request},
    setting::{GRAPH, REPOSITORY, Setting, assert_error_contains, noise, site, stdout_of},
};

#[test]
fn interrupted_download_resumes() {
    let graph = noise(300_000);
    let setting = Setting::new(site(&graph).with(|request, reply| {
        if request.is_storage && request.before < 2 {
            reply.cut = Some(100_000);
        }
    }));
    let output = setting.fetch(&[REPOSITORY]);
    assert_eq!(fs::read(Path::new(stdout_of(&output)).join(GRAPH)).unwrap(), graph);
    let ranges = setting.hub.ranges(GRAPH);
    let ranges: Vec<Option<&str>> = ranges.iter().map(Option::as_deref).collect();
    assert_eq!(ranges, [None, Some("bytes=100000-"), Some("bytes=200000-")]);
}

#[test]
fn stalled_download_is_retried() {
    let graph = noise(100_000);
    let setting = Setting::new(site(&graph).with(|request, reply| {
        if request.is_storage && request.before == 0 {
            reply.cut = Some(60_000);
            reply.stall = Duration::from_secs(60);
        }
    }));
    let started = Instant::now();
    let output = setting
        .command(&["fetch", REPOSITORY])
        .env("HF_HUB_DOWNLOAD_TIMEOUT", "1")
        .output()
        .unwrap();
    assert_eq!(fs::read(Path::new(stdout_of(&output)).join(GRAPH)).unwrap(), graph);
    assert!(started.elapsed() < Duration::from_secs(50));
    assert_eq!(
        setting.hub.ranges(GRAPH).last().unwrap().as_deref(),
        Some("bytes=60000-")
    );
}

#[test]
fn server_without_range_support_sends_the_whole_file() {
    let graph = noise(300_000);
    let setting = Setting::new(site(&graph).with({
        let graph = graph.clone();
        move |request, reply| {
            if request.is_storage {
                reply.status = 200;
                reply.without("Content-Range");
                reply.body.clone_from(&graph);
                reply.cut = (request.before == 0).then_some(100_000);
            }
        }
    }));
    let output = setting.fetch(&[REPOSITORY]);
    assert_eq!(fs::read(Path::new(stdout_of(&output)).join(GRAPH)).unwrap(), graph);
    assert_eq!(setting.hub.ranges(GRAPH).len(), 2);
}

#[test]
fn wrong_content_range_restarts_the_download() {
    let graph = noise(300_000);
    let setting = Setting::new(site(&graph).with(|request, reply| {
        if request.is_storage && request.before == 0 {
            reply.cut = Some(100_000);
        }
        if reply.status == 206 {
            reply.without("Content-Range");
            reply.header("Content-Range", "bytes 0-299999/300000");
        }
    }));
    let output = setting.fetch(&[REPOSITORY]);
    assert_eq!(fs::read(Path::new(stdout_of(&output)).join(GRAPH)).unwrap(), graph);
}

#[test]
fn repeated_interruptions_fail_and_keep_the_partial_file() {
    let graph = noise(300_000);
    let setting = Setting::new(site(&graph).with(|request, reply| {
        if request.is_storage {
            // No progress after the first request.
            reply.cut = Some(if request.before == 0 { 100_000 } else { 0 });
        }
    }));
    assert_error_contains(
        &setting.fetch(&[REPOSITORY]),
        &[GRAPH, "100.00 kB of 300.00 kB", "run the command again"],
    );
    assert_eq!(fs::read(setting.incomplete(&graph)).unwrap(), graph[..100_000]);
    assert!(!setting.snapshot("").exists());
}

#[test]
fn wrong_checksum_removes_the_file() {
    for name in [GRAPH, "tokens.txt"] {
        let graph = noise(50_000);
        let setting = Setting::new(site(&graph).with(move |request, reply| {
            if request.is_for_bytes_of(name) && reply.status == 200 {
                reply.body[7] ^= 1;
            }
        }));
        let output = setting.fetch(&[REPOSITORY]);
        assert_error_contains(&output, &[name, "wrong checksum", "deleted"]);
        let blobs = fs::read_dir(setting.cached("blobs"))
            .unwrap()
            .map(|entry| entry.unwrap().path());
        // The graph is fetched first, and is right if the vocabulary is wrong.
        assert!(blobs.into_iter().all(|path| fs::read(path).unwrap() == graph));
        assert!(!setting.snapshot("").exists());
    }
}

#[test]
fn wrong_length_is_rejected() {
    let setting = Setting::new(site(&noise(50_000)).with(|request, reply| {
        if request.is_storage {
            reply.body.push(0);
        }
    }));
    assert_error_contains(
        &setting.fetch(&[REPOSITORY]),
        &[GRAPH, "50001 bytes", "instead of 50000"],
    );
}

#[test]
fn missing_checksum_is_reported() {
    let setting = Setting::new(site(&noise(50_000)).with(|_, reply| {
        if reply.headers.iter().any(|(name, _)| name == "X-Linked-Etag") {
            reply.without("X-Linked-Etag");
        }
    }));
    let output = setting.fetch(&[REPOSITORY]);
    assert!(output.status.success());
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.contains("there is no checksum for encoder.onnx") && errors.lines().count() == 1,
        "{errors}"
    );
}

#[test]
fn http_errors_are_explained() {
    for (status, code, token, words) in [
        (
            401,
            "RepoNotFound",
            None,
            &["no repository someone/model", "HF_TOKEN"][..],
        ),
        (404, "RepoNotFound", None, &["no repository someone/model"]),
        (404, "RevisionNotFound", None, &["no revision \"main\""]),
        (404, "", None, &["no repository someone/model"]),
        (
            403,
            "GatedRepo",
            Some("hf_x"),
            &["gated", "accept its terms at", "/someone/model", "HF_TOKEN"],
        ),
        (401, "GatedRepo", None, &["gated", "accept its terms at"]),
        (401, "", None, &["requires a token", "set HF_TOKEN"]),
        (401, "", Some("hf_x"), &["rejected the token"]),
        (403, "", Some("hf_x"), &["rejected the token"]),
        (418, "", None, &["HTTP 418"]),
    ] {
        let setting = Setting::new(site(b"").with(move |_, reply| reply.fail(status, code)));
        let mut command = setting.command(&["fetch", REPOSITORY]);
        if let Some(token) = token {
            command.env("HF_TOKEN", token);
        }
        assert_error_contains(&command.output().unwrap(), words);
        assert_eq!(setting.hub.requests().len(), 1, "{status} {code} must not be retried");
    }
}

#[test]
fn missing_file_is_named() {
    let setting = Setting::new(site(&noise(20_000)).with(|request, reply| {
        if request.path.ends_with("tokens.txt") {
            reply.fail(404, "EntryNotFound");
        }
    }));
    assert_error_contains(&setting.fetch(&[REPOSITORY]), &["no tokens.txt at revision", COMMIT]);
}

#[test]
fn transient_errors_are_retried_a_limited_number_of_times() {
    for (status, words) in [
        (429, ["429", "wait some minutes"]),
        (500, ["HTTP 500", "try again later"]),
    ] {
        let fail = move |request: &Request, reply: &mut Reply, times: usize| {
            if request.before < times {
                reply.fail(status, "");
                reply.header("Retry-After", 0);
            }
        };
        let setting = Setting::new(site(&noise(20_000)).with(move |request, reply| fail(request, reply, 2)));
        stdout_of(&setting.fetch(&[REPOSITORY]));
        let setting = Setting::new(site(b"").with(move |request, reply| fail(request, reply, usize::MAX)));
        assert_error_contains(&setting.fetch(&[REPOSITORY]), &words);
        assert_eq!(setting.hub.requests().len(), 5);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Test setup: a home directory, a hub on loopback, and the `nemostt` command.

use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::server::{COMMIT, Hub, Site, sha256};

pub const REPOSITORY: &str = "someone/model";
pub const GRAPH: &str = "encoder.onnx";
/// Environment variables of the user that would affect the tests.
const FOREIGN: [&str; 18] = [
    "ALL_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "all_proxy",
    "https_proxy",
    "http_proxy",
    "no_proxy",
    "HF_ENDPOINT",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HF_HUB_DOWNLOAD_TIMEOUT",
    "HF_TOKEN",
    "HF_TOKEN_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// An initially empty home directory, and a hub.
pub struct Setting {
    pub home: TempDir,
    pub hub: Hub,
}

impl Setting {
    pub fn new(site: Site) -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
            hub: site.start(),
        }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nemostt"));
        self.prepare(&mut command);
        command.args(arguments);
        command
    }

    pub fn prepare(&self, command: &mut Command) {
        for name in FOREIGN {
            command.env_remove(name);
        }
        command
            .env("HF_ENDPOINT", &self.hub.url)
            .env("HF_HOME", self.home.path());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    }

    pub fn fetch(&self, arguments: &[&str]) -> Output {
        self.command(&["fetch"]).args(arguments).output().unwrap()
    }

    /// The repository's directory in the cache.
    pub fn cached(&self, path: &str) -> PathBuf {
        let repository = format!("hub/models--{}", REPOSITORY.replace('/', "--"));
        self.home.path().join(repository).join(path)
    }

    pub fn snapshot(&self, path: &str) -> PathBuf {
        self.cached("snapshots").join(COMMIT).join(path)
    }

    /// Path of a graph while its download is incomplete.
    pub fn incomplete(&self, bytes: &[u8]) -> PathBuf {
        self.cached("blobs").join(format!("{}.incomplete", sha256(bytes)))
    }
}

/// Standard output of a run that must have succeeded without errors.
pub fn stdout_of(output: &Output) -> &str {
    let errors = std::str::from_utf8(&output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    assert_eq!(errors, "");
    std::str::from_utf8(&output.stdout).unwrap().trim_end()
}

/// The single error line of a run that must have failed.
pub fn error_line(output: &Output) -> &str {
    let errors = std::str::from_utf8(&output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert_eq!(output.stdout, b"");
    errors.strip_prefix("nemostt: ").unwrap().trim_end()
}

#[track_caller]
pub fn assert_error_contains(output: &Output, words: &[&str]) {
    let error_line = error_line(output);
    for word in words {
        assert!(error_line.contains(word), "{word}: {error_line}");
    }
}

/// Waits until another process or thread makes `is_so` true.
pub fn wait_until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "timed out");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Pseudorandom bytes.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A repository with one graph and its vocabulary.
pub fn site(graph: &[u8]) -> Site {
    let tokens = b"a 0\n<blk> 1\n".to_vec();
    Site::new(
        REPOSITORY,
        &[
            (GRAPH, graph.to_vec()),
            ("tokens.txt", tokens),
            ("README.md", b"# A model".to_vec()),
        ],
    )
}

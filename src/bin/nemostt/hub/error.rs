// SPDX-License-Identifier: MIT OR Apache-2.0

//! Download errors. Each says how to fix the problem.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use indicatif::DecimalBytes;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{name} is \"{value}\": expected {expected}")]
    Variable {
        name: &'static str,
        value: String,
        expected: &'static str,
    },
    #[error("no CA certificates found ({0}): install ca-certificates, or set SSL_CERT_FILE to a file with them")]
    NoCertificates(String),
    #[error("neither HOME nor HF_HOME is set: set HF_HOME to the parent directory of the cache, or use --dir")]
    NoHome,
    #[error(
        "unknown model \"{name}\"{}; `nemostt models` lists the known ones, and OWNER/REPO is any on the hub",
        did_you_mean(nearest)
    )]
    Unknown { name: String, nearest: Vec<String> },
    #[error("\"{0}\" is not a repository: expected OWNER/REPO, OWNER/REPO/FOLDER or one of these with @REVISION")]
    BadName(String),
    #[error("--dir -: expected a directory, not standard output; use ./- for a directory of this name")]
    HyphenDirectory,
    #[error("{what} is not completely in {}, and HF_HUB_OFFLINE is set: unset it to download the model", cache.display())]
    Offline { what: String, cache: PathBuf },
    #[error(
        "{host} cannot be reached: {reason}. Check the network, the proxy (HTTPS_PROXY) and the mirror (HF_ENDPOINT)"
    )]
    Unreachable { host: String, reason: String },
    #[error(
        "the TLS connection to {host} failed: {reason}. Add its CA certificate, or that of the proxy, to the system's, or \
         set SSL_CERT_FILE"
    )]
    Untrusted { host: String, reason: String },
    #[error(
        "{host} has no repository {repository}, or it is private: check the name, and set HF_TOKEN if it needs one"
    )]
    NoRepository { host: String, repository: String },
    #[error("{repository} has no revision \"{revision}\"")]
    NoRevision { repository: String, revision: String },
    #[error("{repository} has no {file} at revision {revision}")]
    NoFile {
        repository: String,
        file: String,
        revision: String,
    },
    #[error("{repository} is gated: accept its terms at {page}, then set HF_TOKEN to a token with read access")]
    Gated { repository: String, page: String },
    #[error("{host} rejected the token in HF_TOKEN for {repository}: use one with read access, or unset HF_TOKEN")]
    BadToken { host: String, repository: String },
    #[error(
        "{host} requires a token for {repository}: set HF_TOKEN to one with read access, and accept its terms at {page} \
         if there are any"
    )]
    NeedsToken {
        host: String,
        repository: String,
        page: String,
    },
    #[error(
        "{host} limits the number of requests (HTTP 429), still after {tries} attempts: wait some minutes, or set HF_TOKEN"
    )]
    TooMany { host: String, tries: u32 },
    #[error("{host} failed with HTTP {status} in {tries} attempts: try again later")]
    ServerFails { host: String, status: u16, tries: u32 },
    #[error("{host} answered {url} with HTTP {status}")]
    Status { host: String, url: String, status: u16 },
    #[error("{host} is not a Hugging Face hub: its answer to {url} {fault}. Check HF_ENDPOINT")]
    NoHub { host: String, url: String, fault: String },
    #[error("{repository} has no .onnx graph and no .nemo checkpoint{}", elsewhere(folders))]
    NothingToFetch { repository: String, folders: Vec<String> },
    #[error("{repository} has several checkpoints ({}), and --precision cannot select one", names.join(", "))]
    SeveralCheckpoints { repository: String, names: Vec<String> },
    #[error("{repository} has no {model_ref} graphs, only {}", found.join(", "))]
    NoPrecision {
        repository: String,
        model_ref: &'static str,
        found: Vec<String>,
    },
    #[error(
        "{file} differs from the catalog: the hub has SHA-256 {found}, the catalog {expected}. It was not downloaded; \
         if you trust it, use OWNER/REPO instead of the name"
    )]
    Replaced {
        file: String,
        found: String,
        expected: String,
    },
    #[error("{file} has the wrong checksum ({found} instead of {expected}) and was deleted: run the command again")]
    WrongChecksum {
        file: String,
        found: String,
        expected: String,
    },
    #[error("{host} serves {found} bytes of {file} instead of {expected}: try again later")]
    WrongSize {
        file: String,
        host: String,
        found: u64,
        expected: u64,
    },
    #[error("the download of {file} stopped after {} of {} in {tries} attempts ({reason}): run the command again to resume it", DecimalBytes(*got), DecimalBytes(*size))]
    Interrupted {
        file: String,
        got: u64,
        size: u64,
        tries: u32,
        reason: String,
    },
    #[error("{} are needed in {}, and {} are free: free some space, or use another directory with --dir or HF_HOME", DecimalBytes(*needed), directory.display(), DecimalBytes(*free))]
    NoSpace { directory: PathBuf, needed: u64, free: u64 },
    #[error("the disk is full ({source}): {} is incomplete. Free some space and run the command again to resume", path.display())]
    DiskFull { path: PathBuf, source: io::Error },
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} has other graphs ({}), which would be mixed up with the model: use an empty directory",
        directory.display(), names.join(", "))]
    NotEmpty { directory: PathBuf, names: Vec<String> },
}

impl Error {
    /// The error for a failed write to `path`.
    pub fn write(path: &Path, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                Self::DiskFull { path, source }
            }
            _ => Self::Write { path, source },
        }
    }

    pub fn read(path: &Path, source: io::Error) -> Self {
        Self::Read {
            path: path.into(),
            source,
        }
    }
}

fn did_you_mean(nearest: &[String]) -> String {
    match nearest {
        [] => String::new(),
        names => format!(" (did you mean {}?)", names.join(", ")),
    }
}

fn elsewhere(folders: &[String]) -> String {
    match folders {
        [] => String::new(),
        folders => format!(
            " there, but in the folders {}: use OWNER/REPO/FOLDER",
            folders.join(", ")
        ),
    }
}

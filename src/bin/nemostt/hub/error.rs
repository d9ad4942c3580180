// SPDX-License-Identifier: MIT OR Apache-2.0

//! Why a model did not come, and what to do about it.

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
    #[error(
        "no certificates of authorities ({0}): install ca-certificates, or name a file of them in \
         SSL_CERT_FILE"
    )]
    NoCertificates(String),
    #[error(
        "neither HOME nor HF_HOME is set: set HF_HOME to the directory that the cache shall be in, or \
         use --dir"
    )]
    NoHome,
    #[error(
        "no model is called \"{name}\"{}; `nemostt models` lists all, and OWNER/REPO names any on the hub",
        did_you_mean(nearest)
    )]
    Unknown { name: String, nearest: Vec<String> },
    #[error("\"{0}\" names no repository: expected OWNER/REPO, OWNER/REPO/FOLDER or one of these with @REVISION")]
    BadName(String),
    #[error("{what} is not in {} (or not all of it), and HF_HUB_OFFLINE is set: unset it, and fetch once \
         with a network", cache.display())]
    Offline { what: String, cache: PathBuf },
    #[error(
        "{host} cannot be reached: {reason}. Is there a network, a proxy to set in HTTPS_PROXY, a mirror to \
         set in HF_ENDPOINT?"
    )]
    Unreachable { host: String, reason: String },
    #[error(
        "no trust between this machine and {host}: {reason}. Is its certificate, or that of a proxy, in the \
         system's or in SSL_CERT_FILE?"
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
    #[error("{repository} is gated: accept its terms at {page}, then set HF_TOKEN to a token that may read it")]
    Gated { repository: String, page: String },
    #[error("{host} refuses the token in HF_TOKEN for {repository}: take one that may read it, or unset HF_TOKEN")]
    BadToken { host: String, repository: String },
    #[error(
        "{host} wants a token for {repository}: set HF_TOKEN to one that may read it, and accept its terms \
         at {page} if it has any"
    )]
    NeedsToken {
        host: String,
        repository: String,
        page: String,
    },
    #[error(
        "{host} asks for fewer requests (HTTP 429), still after {tries} tries: wait some minutes, or \
         set HF_TOKEN"
    )]
    TooMany { host: String, tries: u32 },
    #[error("{host} fails (HTTP {status}), still after {tries} tries: try again later")]
    ServerFails { host: String, status: u16, tries: u32 },
    #[error("{host} answers {url} with HTTP {status}")]
    Status { host: String, url: String, status: u16 },
    #[error("{host} is no hub: its answer to {url} {fault}. Check HF_ENDPOINT")]
    NoHub { host: String, url: String, fault: String },
    #[error("{repository} has no .onnx graph and no .nemo checkpoint{}", elsewhere(folders))]
    NothingToFetch { repository: String, folders: Vec<String> },
    #[error("{repository} has several checkpoints ({}): this cannot choose", names.join(", "))]
    SeveralCheckpoints { repository: String, names: Vec<String> },
    #[error("{repository} has no {model_ref} graphs, only {}", found.join(", "))]
    NoPrecision {
        repository: String,
        model_ref: &'static str,
        found: Vec<String>,
    },
    #[error(
        "{file} is not the one that is known: the hub has SHA-256 {found}, the catalogue {expected}. Not fetched; \
         if it is to be trusted, name it as OWNER/REPO"
    )]
    Replaced {
        file: String,
        found: String,
        expected: String,
    },
    #[error("{file} came with the wrong checksum ({found}, not {expected}) and was removed: run the command again")]
    WrongChecksum {
        file: String,
        found: String,
        expected: String,
    },
    #[error("{file} is {found} bytes long where {host} has it, not {expected} as the hub says: try again later")]
    WrongSize {
        file: String,
        host: String,
        found: u64,
        expected: u64,
    },
    #[error("{file} breaks off after {} of {}, still after {tries} tries ({reason}): run the command again \
         to go on from there", DecimalBytes(*got), DecimalBytes(*size))]
    Interrupted {
        file: String,
        got: u64,
        size: u64,
        tries: u32,
        reason: String,
    },
    #[error("{} are needed in {}, and {} are free: make room, or choose another place with --dir or \
         HF_HOME", DecimalBytes(*needed), directory.display(), DecimalBytes(*free))]
    NoSpace { directory: PathBuf, needed: u64, free: u64 },
    #[error("the disk is full ({source}): {} is not complete. Make room and run the command again to go on \
         from there", path.display())]
    DiskFull { path: PathBuf, source: io::Error },
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} holds other graphs ({}): choose an empty directory, the two models would be taken for one",
        directory.display(), names.join(", "))]
    NotEmpty { directory: PathBuf, names: Vec<String> },
}

impl Error {
    /// What a failed write to `path` means.
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
            " there; it has some in the folders {}: name one as OWNER/REPO/FOLDER",
            folders.join(", ")
        ),
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Downloads files, with verification and resume.

use std::{io::Read, path::Path};

use indicatif::{ProgressBar, ProgressStyle};
use ureq::http::StatusCode;

use super::{
    api::{HubApi, RemoteFile},
    error::{Error, Result},
    file_paths::FilePaths,
    headers,
    http::host,
    partial::Partial,
    print_status,
    retry::{Failure, MAX_TRIES, RetryPolicy},
};

const BAR: &str =
    "{msg:24!} {wide_bar} {decimal_bytes:>10} / {decimal_total_bytes:10} {decimal_bytes_per_sec:>12} {eta:>4}";

/// Checks that the files fit in `directory`.
pub fn require_space(files: &[&(RemoteFile, FilePaths)], directory: &Path) -> Result<()> {
    // The hub may claim any size.
    let missing = files.iter().map(|(remote, paths)| paths.missing(remote));
    let needed = missing.fold(0, u64::saturating_add);
    // The directory itself may not exist yet.
    let exists = directory.ancestors().find(|directory| directory.exists());
    // If the free space is unknown, writing will fail when the disk is full.
    let Some(Ok(free)) = exists.map(fs4::available_space) else {
        return Ok(());
    };
    if needed > free {
        return Err(Error::NoSpace {
            directory: directory.into(),
            needed,
            free,
        });
    }
    Ok(())
}

/// Downloads one file.
pub fn download(client: &HubApi, remote: &RemoteFile, paths: &FilePaths) -> Result<()> {
    let _lock = paths.lock()?;
    if paths.is_verified(remote) {
        // Another process downloaded it while this one waited.
        return Ok(());
    }
    let bar = ProgressBar::new(remote.size).with_message(remote.name.clone());
    if let Ok(style) = ProgressStyle::with_template(BAR) {
        bar.set_style(style);
    }
    let partial = Partial::open(remote, paths)?;
    let is_resumed = partial.length() > 0;
    match complete(client, remote, partial, &bar) {
        // The resumed part may be wrong: huggingface_hub writes incomplete files in any order.
        Err(Error::WrongChecksum { .. }) if is_resumed => {
            complete(client, remote, Partial::open(remote, paths)?, &bar)?;
        }
        completed => completed?,
    }
    bar.finish_and_clear();
    if remote.checksum.is_none() {
        print_status(format_args!(
            "there is no checksum for {}: only its length was verified",
            remote.name
        ));
    }
    Ok(())
}

/// Receives the missing bytes, over several connections if needed.
fn complete(client: &HubApi, remote: &RemoteFile, mut partial: Partial<'_>, bar: &ProgressBar) -> Result<()> {
    let mut policy = RetryPolicy::default();
    // The maximum so far: a server that starts over each time makes no progress.
    let mut most = partial.length();
    while !partial.is_complete() {
        bar.set_position(partial.length());
        // The displayed rate is that of this connection.
        bar.reset_eta();
        if let Err(failure) = receive(client, remote, &mut partial, bar) {
            if partial.length() > most {
                most = partial.length();
                policy.reset();
            }
            policy.after(with_progress(failure, remote, &partial))?;
        }
    }
    partial.finish()
}

/// Receives bytes over one connection.
fn receive(client: &HubApi, remote: &RemoteFile, partial: &mut Partial<'_>, bar: &ProgressBar) -> Result<(), Failure> {
    let mut response = client.get(remote, partial.length())?;
    let transient = |reason: &str| Failure::Transient {
        error: interrupted(remote, 0, reason),
        pause: None,
    };
    match response.status() {
        StatusCode::PARTIAL_CONTENT if headers::range_start(&response) == Some(partial.length()) => {}
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
            partial.restart()?;
            return Err(transient("the server sent another range than requested"));
        }
        // The server does not support ranges.
        _ if partial.length() > 0 => partial.restart()?,
        _ => {}
    }
    let length = response.body().content_length();
    let length = length.map(|length| partial.length().saturating_add(length));
    if let Some(found) = length.filter(|&length| length != remote.size) {
        return Err(wrong_size(remote, found).into());
    }
    let mut reader = response.body_mut().as_reader();
    let mut bytes = vec![0; 1 << 16];
    loop {
        let read = reader.read(&mut bytes).map_err(|error| transient(&error.to_string()))?;
        if read == 0 {
            return if partial.is_complete() {
                Ok(())
            } else {
                Err(transient("the connection was closed"))
            };
        }
        if partial.length() + read as u64 > remote.size {
            let found = partial.length() + read as u64;
            partial.restart()?;
            return Err(wrong_size(remote, found).into());
        }
        partial.append(&bytes[..read])?;
        bar.set_position(partial.length());
    }
}

/// A failure with the number of bytes received.
fn with_progress(failure: Failure, remote: &RemoteFile, partial: &Partial<'_>) -> Failure {
    match failure {
        Failure::Transient { error, pause } => {
            let error = match error {
                Error::Interrupted { reason, .. } => interrupted(remote, partial.length(), &reason),
                Error::Unreachable { reason, .. } if partial.length() > 0 => {
                    interrupted(remote, partial.length(), &reason)
                }
                error => error,
            };
            Failure::Transient { error, pause }
        }
        permanent => permanent,
    }
}

fn interrupted(remote: &RemoteFile, got: u64, reason: &str) -> Error {
    Error::Interrupted {
        file: remote.name.clone(),
        got,
        size: remote.size,
        tries: MAX_TRIES,
        reason: reason.into(),
    }
}

fn wrong_size(remote: &RemoteFile, found: u64) -> Error {
    Error::WrongSize {
        file: remote.name.clone(),
        host: host(&remote.url),
        found,
        expected: remote.size,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_sizes_need_too_much_space() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let remote = RemoteFile {
                repository: "a/b".into(),
                name: name.into(),
                url: "http://hub/a/b".into(),
                commit: "c".into(),
                etag: name.into(),
                size: u64::MAX,
                checksum: None,
            };
            let paths = FilePaths::in_directory(directory.path(), &remote);
            (remote, paths)
        };
        let files = [file("encoder.onnx"), file("tokens.txt")];
        let refused = require_space(&files.each_ref(), directory.path());
        assert!(
            matches!(refused, Err(Error::NoSpace { needed: u64::MAX, .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn the_bar_template_is_valid() {
        ProgressStyle::with_template(BAR).unwrap();
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which files are trusted: graphs and weights are run as cached, so only this user and root may be able to write
//! them. The rules are those of ssh.

use std::{fs::Metadata, io};

/// Rejects a file or directory that others own or may write to.
#[cfg(unix)]
pub(super) fn check(metadata: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;

    let (owner, user) = (metadata.uid(), user());
    let reject = |what: String| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    if owner != 0 && user.is_some_and(|user| user != owner) {
        return reject(format!("it belongs to user {owner}, expected this one or root"));
    }
    match metadata.mode() & 0o777 {
        mode if mode & 0o022 != 0 => reject(format!(
            "its mode is {mode:o}, which lets other users write to it: run chmod go-w"
        )),
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
pub(super) fn check(_: &Metadata) -> io::Result<()> {
    Ok(())
}

#[cfg(target_os = "linux")]
fn user() -> Option<u32> {
    // SAFETY: it only returns the user id, and never fails.
    #[allow(unsafe_code)]
    Some(unsafe { libc::geteuid() })
}

#[cfg(all(unix, not(target_os = "linux")))]
fn user() -> Option<u32> {
    None
}

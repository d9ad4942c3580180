// SPDX-License-Identifier: MIT OR Apache-2.0

//! Whose word an entry is: graphs and weights are run as they were kept, so nobody but this user and root may have written
//! them. The rules are those of ssh for its files.

use std::{fs::Metadata, io};

/// Refuses a file or directory that others own or may write to.
#[cfg(unix)]
pub(super) fn check(metadata: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;

    let (owner, user) = (metadata.uid(), user());
    let refused = |what: String| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    if owner != 0 && user.is_some_and(|user| user != owner) {
        return refused(format!("it belongs to user {owner}, expected this one or root"));
    }
    match metadata.mode() & 0o777 {
        mode if mode & 0o022 != 0 => refused(format!(
            "its mode is {mode:o}, expected that nobody else may write to it: chmod go-w"
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
    // SAFETY: it only asks, and never fails.
    #[allow(unsafe_code)]
    Some(unsafe { libc::geteuid() })
}

#[cfg(all(unix, not(target_os = "linux")))]
fn user() -> Option<u32> {
    None
}

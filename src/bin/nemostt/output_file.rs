// SPDX-License-Identifier: MIT OR Apache-2.0

//! Output files, which appear only when they are complete.

use std::{
    fs::{self, File, Permissions},
    io::{self, Read},
    path::{Path, PathBuf},
};

use tempfile::Builder;

/// Fails early if [`store`] would certainly fail, rather than after an hour of computing.
pub fn check(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(about) if about.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        // Opening a pipe would block until it has a reader.
        Ok(about) if !about.is_file() => Ok(()),
        // An unnamed file, so that nothing is left behind.
        _ => tempfile::tempfile_in(directory(&resolve(path))).map(drop),
    }
}

/// Writes a complete text to `path`, atomically: to a temporary file in the same directory, which is then renamed.
pub fn store(path: &Path, mut text: &[u8]) -> io::Result<()> {
    store_from(path, &mut text)
}

/// The same with all that `contents` gives.
pub fn store_from(path: &Path, contents: &mut impl Read) -> io::Result<()> {
    let before = fs::metadata(path);
    if before.as_ref().is_ok_and(|about| !about.is_file()) {
        // A device or a pipe must not be replaced.
        return io::copy(contents, &mut File::options().write(true).open(path)?).map(drop);
    }
    let path = resolve(path);
    let mut file = Builder::new()
        .prefix(".nemostt-")
        .permissions(default_permissions())
        .tempfile_in(directory(&path))?;
    if let Ok(about) = before {
        // Restore the permissions that the umask removed.
        file.as_file().set_permissions(about.permissions())?;
    }
    io::copy(contents, &mut file)?;
    file.as_file().sync_all()?;
    file.persist(&path)?;
    Ok(())
}

/// The message for a failed write.
pub fn unwritable(target: &Path, error: &io::Error) -> String {
    format!("cannot write {}: {error}", target.display())
}

/// The target if `path` is a symbolic link, so that the link stays one.
fn resolve(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// The permissions of a new file, before the umask.
fn default_permissions() -> Permissions {
    use std::os::unix::fs::PermissionsExt;
    Permissions::from_mode(0o666)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_link_stays_and_its_file_keeps_its_permissions() {
        let directory = tempfile::tempdir().unwrap();
        let [real, link] = ["real", "link"].map(|name| directory.path().join(name));
        fs::write(&real, "old and longer").unwrap();
        // More than the usual umask allows.
        fs::set_permissions(&real, Permissions::from_mode(0o662)).unwrap();
        symlink("real", &link).unwrap();

        check(&link).unwrap();
        store(&link, b"new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&real).unwrap(), b"new");
        assert_eq!(real.metadata().unwrap().permissions().mode() & 0o777, 0o662);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn an_unwritable_path_is_detected_early() {
        assert_eq!(check(Path::new("/dev/null")).map_err(|e| e.kind()), Ok(()));
        let directory = tempfile::tempdir().unwrap();
        assert!(check(directory.path()).is_err());
        assert!(check(&directory.path().join("missing/file")).is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}

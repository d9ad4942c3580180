// SPDX-License-Identifier: MIT OR Apache-2.0

//! Writes a model into a repository, where it appears when it is complete.

use std::{
    borrow::Cow,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use tempfile::{Builder, TempDir};

use crate::output_file;

/// The files of a model, by path; each is written part by part.
pub type Files<'a> = Vec<(PathBuf, Vec<Cow<'a, [u8]>>)>;

/// Writes `files` into directory `name` of `repository`.
///
/// # Errors
/// One line that names the directory, also if there is one of this name.
pub fn store(repository: &Path, name: &str, files: &Files<'_>) -> Result<(), String> {
    let target = repository.join(name);
    let write = || -> io::Result<()> {
        fs::create_dir_all(repository)?;
        let repository = repository.canonicalize()?;
        match place(beside(&repository), &repository, name, files) {
            // The repository is mounted there, or its parent belongs to somebody else.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::CrossesDevices | io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                place(&repository, &repository, name, files)
            }
            result => result,
        }
    };
    write().map_err(|error| match error.kind() {
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => exists(&target),
        _ => output_file::unwritable(&target, &error),
    })
}

/// Whether `repository` can be the directory of a repository, before anything is computed for it.
///
/// # Errors
/// One line, if there is something else of this name.
pub fn check_repository(repository: &Path) -> Result<(), String> {
    match fs::metadata(repository) {
        Ok(about) if !about.is_dir() => Err(format!(
            "{} is a file, but a model repository is a directory: name another one, or remove the file",
            repository.display()
        )),
        // It is made if there is none.
        _ => Ok(()),
    }
}

/// The message if there is a model at `target`.
pub fn exists(target: &Path) -> String {
    format!(
        "{} exists already: remove it, or choose another name with --name",
        target.display()
    )
}

/// Where a model is written before it is complete: outside of the repository, in which Triton takes each directory for a model,
/// also hidden ones, and does not start if one of them is incomplete.
fn beside(repository: &Path) -> &Path {
    repository.parent().unwrap_or(repository)
}

/// Writes `files` into a temporary directory in `parent`, and moves them into `repository`.
fn place(parent: &Path, repository: &Path, name: &str, files: &Files<'_>) -> io::Result<()> {
    let unfinished: TempDir = Builder::new().prefix(".nemostt-").tempdir_in(parent)?;
    // Inside of it, because temporary directories are closed to other users, such as that of the server.
    let directory = unfinished.path().join(name);
    for (path, parts) in files {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&directory))?;
        let mut file = File::create(path)?;
        parts.iter().try_for_each(|part| file.write_all(part))?;
        file.sync_all()?;
    }
    fs::rename(&directory, repository.join(name))?;
    // Not all file systems can do this, and the model is there.
    let _ = File::open(repository).and_then(|directory| directory.sync_all());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files of two parts.
    fn files(paths: [&str; 2]) -> Files<'static> {
        let file = |path: &str| (path.into(), vec![Cow::Borrowed(&b"a"[..]), Cow::Owned(b"b".to_vec())]);
        paths.map(file).into()
    }

    #[test]
    fn a_model_appears_complete_and_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let repository = directory.path().join("new/repository");
        let files = files(["config.pbtxt", "1/model.onnx"]);
        store(&repository, "m", &files).unwrap();
        assert_eq!(fs::read(repository.join("m/1/model.onnx")).unwrap(), b"ab");
        let error = store(&repository, "m", &files).unwrap_err();
        assert!(
            error.ends_with("exists already: remove it, or choose another name with --name"),
            "{error}"
        );
        // Nothing unfinished is left, in the repository or beside it.
        assert_eq!(fs::read_dir(&repository).unwrap().count(), 1);
        assert_eq!(fs::read_dir(repository.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn an_incomplete_model_is_never_in_the_repository() {
        let directory = tempfile::tempdir().unwrap();
        let repository = directory.path().join("repository");
        fs::create_dir(&repository).unwrap();
        // While the last file is written, which fails, as it would on a full disk: "1" is a file already.
        let files = files(["1", "1/model.onnx"]);
        store(&repository, "m", &files).unwrap_err();
        assert_eq!(fs::read_dir(&repository).unwrap().count(), 0);
        assert_eq!(beside(&repository), directory.path());
    }
}

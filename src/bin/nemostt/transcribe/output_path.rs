// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where texts go: to standard output, or to files that appear only when they are complete.

use std::{
    collections::HashMap,
    fs::{self, File, Permissions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use tempfile::Builder;

use super::{args::Transcribe, output::Format};
use crate::{Result, audio::Location};

/// Where the text of each input goes, in their order; `None` is standard output.
///
/// # Errors
/// If two texts, or a text and an input, would go to one place.
pub fn targets(arguments: &Transcribe, places: &[Location]) -> Result<Vec<Option<PathBuf>>> {
    let format = arguments.format();
    let several = places.len() > 1;
    if places.iter().filter(|&place| *place == Location::StandardInput).count() > 1 {
        return Err("standard input can be heard once only: name `-` once".into());
    }
    let output = arguments.output.as_ref().filter(|output| output.as_os_str() != "-");
    match (output, &arguments.output_dir) {
        (Some(path), _) if several => Err(format!(
            "--output {}: one file cannot hold the texts of {} inputs; use --output-dir DIR for one file each, or \
             `--output -` for standard output",
            path.display(),
            places.len()
        )
        .into()),
        (Some(path), _) => {
            refuse_overwrite(path, places)?;
            Ok(vec![Some(path.clone())])
        }
        (None, Some(directory)) => {
            let paths: Vec<PathBuf> = places.iter().map(|place| directory.join(name(place, format))).collect();
            let mut inputs = HashMap::new();
            for (path, place) in paths.iter().zip(places) {
                refuse_overwrite(path, places)?;
                if let Some(other) = inputs.insert(path, place) {
                    return Err(format!(
                        "{other} and {place} would both be written to {}: transcribe one of them alone",
                        path.display()
                    )
                    .into());
                }
            }
            let created = fs::create_dir_all(directory);
            created.map_err(|error| format!("cannot make the directory {}: {error}", directory.display()))?;
            Ok(paths.into_iter().map(Some).collect())
        }
        (None, None) if several && matches!(format, Format::Srt | Format::Vtt) => Err(format!(
            "{}--{} of {} inputs: subtitles need one file for each input, not standard output; use --output-dir DIR",
            arguments.output.as_ref().map_or("", |_| "--output -: "),
            format.extension(),
            places.len()
        )
        .into()),
        (None, None) => Ok(vec![None; places.len()]),
    }
}

/// talk.mp4 → talk.srt
fn name(place: &Location, format: Format) -> PathBuf {
    let mut name = place.stem();
    name.push(".");
    name.push(format.extension());
    name.into()
}

/// An error if writing `path` would destroy an input.
fn refuse_overwrite(path: &Path, places: &[Location]) -> Result<()> {
    let Ok(real) = path.canonicalize() else {
        return Ok(());
    };
    let mut inputs = places.iter().filter_map(|place| match place {
        Location::File(path) => Some(path),
        _ => None,
    });
    match inputs.find(|input| input.canonicalize().is_ok_and(|input| input == real)) {
        Some(input) if real.is_file() => Err(format!(
            "the output would overwrite the input {}: choose another output",
            input.display()
        )
        .into()),
        _ => Ok(()),
    }
}

/// Fails now if [`store`] would fail for sure: nobody wants to know that after an hour of computing.
pub fn check(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(about) if about.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        // Opening a pipe would wait for its reader.
        Ok(about) if !about.is_file() => Ok(()),
        // Without a name, so that nothing is left whatever happens.
        _ => tempfile::tempfile_in(directory(&resolve(path))).map(drop),
    }
}

/// Writes a complete text to `path`. A file is written under another name beside it, and takes its place in one step: who
/// looks at it sees the old text or the new one, never half of it.
pub fn store(path: &Path, text: &[u8]) -> io::Result<()> {
    let before = fs::metadata(path);
    if before.as_ref().is_ok_and(|about| !about.is_file()) {
        // A device or a pipe: not to be replaced.
        return File::options().write(true).open(path)?.write_all(text);
    }
    let path = resolve(path);
    let mut file = Builder::new()
        .prefix(".nemostt-")
        .permissions(usual_permissions())
        .tempfile_in(directory(&path))?;
    if let Ok(about) = before {
        // The process's mask must not take away from what the file had.
        file.as_file().set_permissions(about.permissions())?;
    }
    file.write_all(text)?;
    file.as_file().sync_all()?;
    file.persist(&path)?;
    Ok(())
}

/// What to say when that fails.
pub fn unwritable(target: &Path, error: &io::Error) -> String {
    format!("cannot write {}: {error}", target.display())
}

/// The file itself, if `path` is a link to it: the link stays a link.
fn resolve(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Those of any new file; the process's mask takes away from them.
fn usual_permissions() -> Permissions {
    use std::os::unix::fs::PermissionsExt;
    Permissions::from_mode(0o666)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn names_follow_the_format() {
        let names = [
            ("a/talk.mp4", "talk.srt"),
            ("b.c.flac", "b.c.srt"),
            ("none", "none.srt"),
            ("-", "stdin.srt"),
            ("http://a.b/talks/talk.mp4?x=y", "talk.srt"),
        ];
        for (input, expected) in names {
            assert_eq!(name(&Location::of(Path::new(input)), Format::Srt), Path::new(expected));
        }
    }

    #[test]
    fn a_link_stays_and_its_file_keeps_its_permissions() {
        let directory = tempfile::tempdir().unwrap();
        let [real, link] = ["real", "link"].map(|name| directory.path().join(name));
        fs::write(&real, "old and longer").unwrap();
        // More than the usual mask of a process leaves.
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
    fn what_cannot_be_written_is_told_at_once() {
        assert_eq!(check(Path::new("/dev/null")).map_err(|e| e.kind()), Ok(()));
        let directory = tempfile::tempdir().unwrap();
        assert!(check(directory.path()).is_err());
        assert!(check(&directory.path().join("missing/file")).is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}

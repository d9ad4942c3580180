// SPDX-License-Identifier: MIT OR Apache-2.0

//! Output paths: standard output, or files.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use super::{args::Transcribe, output::Format};
use crate::{Result, audio::Location};

/// The output path of each input, in order; `None` is standard output.
///
/// # Errors
/// If two outputs, or an output and an input, have the same path.
pub fn targets(arguments: &Transcribe, locations: &[Location]) -> Result<Vec<Option<PathBuf>>> {
    let format = arguments.format();
    let several = locations.len() > 1;
    if locations
        .iter()
        .filter(|&location| *location == Location::StandardInput)
        .count()
        > 1
    {
        return Err("standard input (`-`) is named more than once: it can only be read once".into());
    }
    let output = arguments.output.as_ref().filter(|output| output.as_os_str() != "-");
    match (output, &arguments.output_dir) {
        (Some(path), _) if several => Err(format!(
            "--output {}: one file cannot hold the texts of {} inputs; use --output-dir DIR for one file each, or \
             `--output -` for standard output",
            path.display(),
            locations.len()
        )
        .into()),
        (Some(path), _) => {
            refuse_overwrite(path, locations)?;
            Ok(vec![Some(path.clone())])
        }
        (None, Some(directory)) => {
            let paths: Vec<PathBuf> = locations
                .iter()
                .map(|location| directory.join(name(location, format)))
                .collect();
            let mut inputs = HashMap::new();
            for (path, location) in paths.iter().zip(locations) {
                refuse_overwrite(path, locations)?;
                if let Some(other) = inputs.insert(path, location) {
                    return Err(format!(
                        "{other} and {location} would both be written to {}: transcribe them in separate calls",
                        path.display()
                    )
                    .into());
                }
            }
            let created = fs::create_dir_all(directory);
            created.map_err(|error| format!("cannot create the directory {}: {error}", directory.display()))?;
            Ok(paths.into_iter().map(Some).collect())
        }
        (None, None) if several && matches!(format, Format::Srt | Format::Vtt) => Err(format!(
            "{}--{} of {} inputs: subtitles need one file for each input, not standard output; use --output-dir DIR",
            arguments.output.as_ref().map_or("", |_| "--output -: "),
            format.extension(),
            locations.len()
        )
        .into()),
        (None, None) => Ok(vec![None; locations.len()]),
    }
}

/// talk.mp4 → talk.srt
fn name(location: &Location, format: Format) -> PathBuf {
    let mut name = location.stem();
    name.push(".");
    name.push(format.extension());
    name.into()
}

/// An error if writing `path` would overwrite an input.
fn refuse_overwrite(path: &Path, locations: &[Location]) -> Result<()> {
    let Ok(real) = path.canonicalize() else {
        return Ok(());
    };
    let mut inputs = locations.iter().filter_map(|location| match location {
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

#[cfg(test)]
mod tests {
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
}

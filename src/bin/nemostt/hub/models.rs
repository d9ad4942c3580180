// SPDX-License-Identifier: MIT OR Apache-2.0

//! `nemostt models`.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
};

use clap::Args;
use indicatif::DecimalBytes;
use serde::Serialize;

use super::{
    cache::Cache,
    catalog::{self, Format, Model},
    env::HubEnv,
    model_ref::ModelRef,
};
use crate::terminal;

/// The columns of the table, the most useful first: as many are printed as fit.
const COLUMNS: [Column; 9] = [
    ("NAME", |entry| entry.model.name.clone()),
    ("SIZE", Entry::size),
    ("CACHED", |entry| yes_or_no(entry.path.is_some())),
    ("LOOKAHEAD", Entry::lookahead_range),
    ("LANGUAGE", |entry| entry.model.languages.join(", ")),
    ("DECODER", |entry| entry.model.decoders.join(",")),
    ("LICENSE", |entry| entry.model.licence.clone()),
    ("PUNCTUATION", |entry| yes_or_no(entry.model.punctuation)),
    ("REPOSITORY", |entry| entry.model.repository.clone()),
];
/// Columns that are printed however narrow the terminal is.
const MIN_COLUMNS: usize = 2;
/// Between two columns.
const SPACE: &str = "  ";

/// Printed below the table on a terminal. A file or pipe gets the table alone.
const HINT: &str = "
Download one with `nemostt fetch NAME`. --verbose prints all details. Names that end
in -nemo are NeMo checkpoints, which must be exported before use.
";

type Column = (&'static str, fn(&Entry) -> String);

/// List the published models that have a short name
///
/// The table has as many columns as fit the terminal. None of these models could be tested with nemostt yet. NeMo
/// checkpoints, whose names end in -nemo, must be exported before use; `nemostt fetch` prints the command.
#[derive(Debug, Args)]
pub struct Models {
    /// Print all details of each model instead of a table
    #[arg(short, long)]
    verbose: bool,

    /// Print them as JSON, with their files
    #[arg(long, conflicts_with = "verbose")]
    json: bool,
}

/// A model, and where it is.
#[derive(Serialize)]
struct Entry {
    #[serde(flatten)]
    model: Model,
    /// In bytes, if known.
    size: Option<u64>,
    /// If it is in the cache.
    path: Option<PathBuf>,
}

impl Models {
    pub fn run(&self) -> crate::Result<()> {
        let settings = HubEnv::from_env()?;
        let entry = |model: Model| {
            let found = Cache::new(&settings, &model.repository).find(&ModelRef::from(&model), None);
            Entry {
                size: model.size(),
                path: found.map(|found| found.directory),
                model,
            }
        };
        let entries: Vec<Entry> = catalog::models()?.into_iter().map(entry).collect();
        let mut text = Vec::new();
        if self.json {
            serde_json::to_writer_pretty(&mut text, &entries)?;
            text.push(b'\n');
        } else if self.verbose {
            details(&entries, &mut text)?;
        } else {
            table(&entries, terminal::width(), &mut text)?;
            if io::stdout().is_terminal() {
                text.extend_from_slice(HINT.as_bytes());
            }
        }
        Ok(io::stdout().write_all(&text)?)
    }
}

impl Entry {
    fn size(&self) -> String {
        self.size
            .map_or_else(|| "unknown".into(), |size| DecimalBytes(size).to_string())
    }

    fn lookahead_range(&self) -> String {
        match self.model.lookaheads.as_slice() {
            [first, .., last] => format!("{first}-{last} ms"),
            [only] => format!("{only} ms"),
            [] => String::new(),
        }
    }

    /// Everything about the model, by name.
    fn details(&self) -> Vec<(&'static str, String)> {
        let Self { model, path, .. } = self;
        let lookaheads: Vec<String> = model.lookaheads.iter().map(u32::to_string).collect();
        let format = match model.format {
            Format::SherpaOnnx => "sherpa-onnx",
            Format::ParakeetRs => "parakeet-rs",
            Format::Nemo => "NeMo checkpoint (must be exported before use)",
        };
        let mut details = vec![
            ("size", self.size()),
            (
                "cached",
                path.as_ref()
                    .map_or_else(|| "no".into(), |path| path.display().to_string()),
            ),
            ("format", format.into()),
            ("precision", model.precision.clone()),
            ("lookahead", format!("{} ms", lookaheads.join(", "))),
            ("language", model.languages.join(", ")),
            ("decoder", model.decoders.join(", ")),
            ("punctuation", yes_or_no(model.punctuation)),
            ("license", model.licence.clone()),
            ("checkpoint", model.weights.clone()),
            ("repository", model.repository.clone()),
        ];
        if !model.folder.is_empty() {
            details.push(("folder", model.folder.clone()));
        }
        details.extend(model.revision.clone().map(|revision| ("revision", revision)));
        details
    }
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.into()
}

/// A table of at most `limit` columns of text, as far as [`MIN_COLUMNS`] allow.
fn table(entries: &[Entry], limit: usize, out: &mut impl Write) -> io::Result<()> {
    let mut columns: Vec<Vec<String>> = Vec::new();
    let mut total = 0;
    for (heading, cell) in COLUMNS {
        let mut column = vec![heading.to_owned()];
        column.extend(entries.iter().map(cell));
        let width = column.iter().map(String::len).max().unwrap_or_default();
        total += width + if columns.is_empty() { 0 } else { SPACE.len() };
        if total > limit && columns.len() >= MIN_COLUMNS {
            break;
        }
        for cell in &mut column {
            *cell = format!("{cell:width$}");
        }
        columns.push(column);
    }
    for row in 0..=entries.len() {
        let cells: Vec<&str> = columns.iter().map(|column| column[row].as_str()).collect();
        writeln!(out, "{}", cells.join(SPACE).trim_end())?;
    }
    Ok(())
}

/// A paragraph for each model.
fn details(entries: &[Entry], out: &mut impl Write) -> io::Result<()> {
    for (number, entry) in entries.iter().enumerate() {
        if number > 0 {
            writeln!(out)?;
        }
        writeln!(out, "{}", entry.model.name)?;
        for (name, value) in entry.details() {
            writeln!(out, "  {name:<13}{value}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_fits_any_terminal() {
        let models = catalog::models().unwrap().into_iter();
        let entries: Vec<Entry> = models
            .map(|model| Entry {
                size: model.size(),
                path: None,
                model,
            })
            .collect();
        let widths = |limit| -> (usize, String) {
            let mut text = Vec::new();
            table(&entries, limit, &mut text).unwrap();
            let text = String::from_utf8(text).unwrap();
            let longest = text.lines().map(str::len).max().unwrap();
            (longest, text.lines().next().unwrap().to_owned())
        };
        for limit in 50..300 {
            let (longest, heading) = widths(limit);
            assert!(longest <= limit, "{longest} of {limit}: {heading}");
        }
        let (_, heading) = widths(80);
        assert!(heading.ends_with("LANGUAGE"), "{heading}");
        let (_, heading) = widths(300);
        assert!(heading.ends_with("REPOSITORY"), "{heading}");
        let (_, heading) = widths(1);
        assert!(heading.starts_with("NAME") && heading.ends_with("SIZE"), "{heading}");
    }
}

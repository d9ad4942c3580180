// SPDX-License-Identifier: MIT OR Apache-2.0

//! `nemostt models`.

use std::{
    io::{self, Write},
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

const HEADINGS: [&str; 9] = [
    "NAME",
    "SIZE",
    "LANGUAGE",
    "LOOKAHEAD (MS)",
    "DECODER",
    "PUNCTUATION",
    "HERE",
    "LICENCE",
    "FROM",
];

/// List the published models that have a short name
///
/// None of them could be tried with nemostt yet. Those that come from a .nemo checkpoint must be exported before use;
/// fetch says how.
#[derive(Debug, Args)]
pub struct Models {
    /// Print them as JSON, with their files
    #[arg(long)]
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
        } else {
            table(&entries, &mut text)?;
        }
        Ok(io::stdout().write_all(&text)?)
    }
}

fn table(entries: &[Entry], out: &mut impl Write) -> io::Result<()> {
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(entries.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: [usize; HEADINGS.len()] = std::array::from_fn(width);
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

fn row(entry: &Entry) -> [String; HEADINGS.len()] {
    let Entry { model, size, path } = entry;
    let lookaheads: Vec<String> = model.lookaheads.iter().map(u32::to_string).collect();
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let export = if model.format == Format::Nemo {
        " (to export)"
    } else {
        ""
    };
    [
        model.name.clone(),
        size.map_or_else(|| "size unknown".into(), |size| DecimalBytes(size).to_string()),
        model.languages.join(", "),
        lookaheads.join(", "),
        model.decoders.join(", "),
        yes(model.punctuation),
        yes(path.is_some()),
        model.licence.clone(),
        format!("{}{export}", model.repository),
    ]
}

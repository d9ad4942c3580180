// SPDX-License-Identifier: MIT OR Apache-2.0

//! `nemostt check`: whether a model runs on this machine, and its properties.

mod report;

use std::{
    io::{self, Write},
    path::PathBuf,
    time::Instant,
};

use clap::Args;
use nemostt::{Event, Recognizer};
use report::{Report, SelfTest, Server};

use crate::{Result, bench::test_clip, model_args::ModelArguments};

/// Samples of the self-test: two seconds.
const SELF_TEST_SAMPLES: usize = 2 * 16_000;

/// Inspect a model and check that it runs on this machine
///
/// Reads its graphs and vocabulary, loads it, and transcribes two seconds of speech. The exit code is 0 if all of this
/// works. Otherwise one line says what is wrong and how to fix it.
#[derive(Debug, Args)]
pub struct Check {
    /// Model directory, or one encoder or CTC graph of several in it
    #[arg(value_name = "MODEL")]
    path: Option<PathBuf>,

    #[command(flatten)]
    model: ModelArguments,

    /// Right context in milliseconds that the encoder sees before a frame is decoded [default: the model's own]
    #[arg(long, value_name = "MS")]
    lookahead: Option<u32>,

    /// List the inputs and outputs of each graph, too
    #[arg(short, long)]
    verbose: bool,

    /// Show what each pass over the graphs changed, or why it changed nothing. Compiles the model without the cache
    #[arg(long)]
    passes: bool,

    /// Write the encoder's graph after each pass into this directory
    #[arg(long, value_name = "DIR")]
    dump_graphs: Option<PathBuf>,

    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

impl Check {
    pub fn run(&self) -> Result<()> {
        let mut model = self.model.clone();
        if let Some(path) = &self.path {
            model.model = Some(path.clone());
        }
        let since = Instant::now();
        let recognizer = match self.passes || self.dump_graphs.is_some() {
            true => model.compile(self.lookahead, self.dump_graphs.clone())?,
            false => model.load(self.lookahead)?,
        };
        let loading = since.elapsed();
        let self_test = self_test(&recognizer)?;
        if let Some(notice) = model.notice() {
            eprintln!("nemostt: {notice}");
        }
        let servers = servers(&recognizer);
        let report = Report::new(&model.name(), &recognizer, loading, self_test, servers);
        let text = match self.json {
            true => serde_json::to_string_pretty(&report)? + "\n",
            false => report.text(self.verbose, self.passes),
        };
        Ok(io::stdout().write_all(text.as_bytes())?)
    }
}

/// The servers that the encoder may run on, and what they say about it.
#[cfg(feature = "triton")]
fn servers(recognizer: &Recognizer) -> Vec<Server> {
    let server = |status: nemostt::ServerStatus| Server {
        server: status.server,
        model: status.model,
        versions: status.versions,
        usable: status.usable.is_ok(),
        reason: status.usable.err().map(|error| error.to_string()),
    };
    recognizer.servers().into_iter().map(server).collect()
}

#[cfg(not(feature = "triton"))]
fn servers(_: &Recognizer) -> Vec<Server> {
    Vec::new()
}

/// Transcribes two seconds of speech.
fn self_test(recognizer: &Recognizer) -> Result<SelfTest> {
    let rate = recognizer.config().front_end.sample_rate;
    let speech = test_clip::read(None, rate)?;
    let speech = &speech[..SELF_TEST_SAMPLES.min(speech.len())];
    let since = Instant::now();
    let text = words(recognizer, speech)?;
    Ok(SelfTest {
        seconds: speech.len() as f64 / f64::from(rate),
        computing: since.elapsed().as_secs_f64(),
        text,
    })
}

fn words(recognizer: &Recognizer, speech: &[f32]) -> nemostt::Result<String> {
    let mut stream = recognizer.stream()?;
    stream.accept(speech)?;
    stream.finish(0)?;
    let events = std::iter::from_fn(|| stream.next_event());
    let words: Vec<String> = events
        .filter_map(|event| match event {
            Event::Word(word) => Some(word.text),
            _ => None,
        })
        .collect();
    Ok(words.join(" "))
}

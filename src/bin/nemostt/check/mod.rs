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
use report::{Report, SelfTest};

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

    /// Audio to hear beyond a sound before deciding on it, in milliseconds [default: the model's own]
    #[arg(long, value_name = "MS")]
    lookahead: Option<u32>,

    /// List the inputs and outputs of each graph, too
    #[arg(short, long)]
    verbose: bool,

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
        let recognizer = model.load(self.lookahead)?;
        let loading = since.elapsed();
        let self_test = self_test(&recognizer)?;
        if let Some(notice) = model.notice() {
            eprintln!("nemostt: {notice}");
        }
        let report = Report::new(&model.name(), &recognizer, loading, self_test);
        let text = match self.json {
            true => serde_json::to_string_pretty(&report)? + "\n",
            false => report.text(self.verbose),
        };
        Ok(io::stdout().write_all(text.as_bytes())?)
    }
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

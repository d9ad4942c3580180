// SPDX-License-Identifier: MIT OR Apache-2.0

//! `nemostt bench`: speed and memory of a model on this machine.

mod cpu_contention;
mod max_streams;
mod memory;
mod quantile;
mod report;
mod setup;
mod stages;
pub mod test_clip;
mod text;

use std::{
    io::{self, Write},
    path::PathBuf,
    time::Instant,
};

use clap::Args;
use cpu_contention::SchedStats;
use indicatif::ProgressBar;
use memory::Memory;
use nemostt::Error;
use report::{Report, Row};
use setup::Setup;

use crate::{Result, model_args::ModelArguments};

/// Measure speed and memory of a model on this machine
///
/// Prints one line per lookahead. It takes about a minute with a small model and several minutes with a large one. Leave the
/// machine idle while it runs.
#[derive(Debug, Args)]
#[command(after_long_help = METHOD)]
pub struct Bench {
    #[command(flatten)]
    model: ModelArguments,

    /// Lookaheads to measure, in milliseconds, separated by commas [default: all that the model supports]
    #[arg(long, value_name = "MS", value_delimiter = ',')]
    lookahead: Vec<u32>,

    /// Audio or video file with speech, of which at most one minute is used [default: a built-in clip of 25 s]
    #[arg(long)]
    file: Option<PathBuf>,

    /// Print one JSON document, with times in milliseconds and memory in bytes
    #[arg(long)]
    json: bool,
}

/// One line per paragraph: clap wraps them to the width of the terminal.
const METHOD: &str = "\
Method

The model is loaded once per lookahead. \"load time\" is that of the first load, which includes the start of ONNX Runtime, and \
the median of the others. Files may come from the page cache.

One stream transcribes the clip in blocks of 10 ms, repeatedly for at least three seconds. The real-time factor (RTF) is its \
computing time divided by the duration of the audio. Stages are means per chunk: front end (samples to mel frames), encoder, \
decoder (RNN-T or CTC, and words), and rest (output of words). A step is the time from the last 10 ms of a chunk to its words; \
this delay adds to the lookahead.

Streams per core is the largest number of streams that one thread runs in real time, each at a different position of the clip, \
one chunk per stream in turn. There is no headroom in it, and with all cores busy, shared caches and memory bandwidth lower \
it. It is measured with one thread, whatever --threads is.

Memory is resident memory from /proc: the increase after loading the model and transcribing the clip once, the increase per \
stream over eight more streams, and the peaks while loading and in total.";

impl Bench {
    pub fn run(&self) -> Result<()> {
        let progress = ProgressBar::new_spinner();
        let report = self.measure(&progress);
        progress.finish_and_clear();
        let report = report?;
        let text = match self.json {
            true => serde_json::to_string_pretty(&report)? + "\n",
            false => report.to_string(),
        };
        Ok(io::stdout().write_all(text.as_bytes())?)
    }

    fn measure(&self, progress: &ProgressBar) -> Result<Report> {
        let show = |text: String| {
            progress.set_message(text);
            progress.tick();
        };
        show("loading the model".into());
        let before = memory::resident();
        let (start, recognizer) = (Instant::now(), self.model.load(self.lookahead.first().copied())?);
        let first_load = start.elapsed();
        let loading_peak = memory::peak();

        let config = recognizer.config().clone();
        let speech = test_clip::read(self.file.as_deref(), config.front_end.sample_rate)?;
        show("measuring memory".into());
        let memory = Memory::measure(&recognizer, &speech, before, loading_peak)?;
        drop(recognizer);

        let lookaheads = match self.lookahead.as_slice() {
            [] => {
                let frame = config.frame_samples() * 1000 / u64::from(config.front_end.sample_rate);
                let frames = config.streaming.lookaheads().into_iter();
                frames.map(|frames| frames as u32 * frame as u32).collect()
            }
            requested => requested.to_vec(),
        };
        let then = SchedStats::now();
        let (mut rows, mut loads) = (Vec::new(), Vec::new());
        for lookahead in lookaheads {
            show(format!("lookahead {lookahead} ms: one stream"));
            let (start, loaded) = (Instant::now(), self.model.load(Some(lookahead)));
            let recognizer = match loaded {
                // The graph supports more lookaheads than the model was trained for.
                Err(Error::Lookahead { .. }) if self.lookahead.is_empty() => continue,
                loaded => loaded?,
            };
            loads.push(start.elapsed());
            let stages = stages::measure(&recognizer, &speech)?;

            show(format!("lookahead {lookahead} ms: streams on one core"));
            let on_one_thread = match recognizer.config().threads {
                1 => recognizer,
                _ => {
                    drop(recognizer);
                    self.model.load_with_threads(Some(lookahead), 1)?
                }
            };
            let streams = max_streams::measure(&on_one_thread, &speech)?;
            rows.push(Row::new(&config, lookahead, &stages, streams));
        }
        let waiting = SchedStats::now().zip(then).map(|(now, then)| now.waiting_since(then));
        let memory = memory.with_peak(memory::peak());
        Ok(Report::new(
            Setup::new(self.model.name(), &config),
            (first_load, loads),
            memory,
            waiting,
            rows,
        ))
    }
}

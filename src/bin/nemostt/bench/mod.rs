// SPDX-License-Identifier: MIT OR Apache-2.0

//! `nemostt bench`: speed and memory of a model on this machine.

mod concurrent;
mod cpu_contention;
mod max_streams;
mod memory;
mod plot;
mod process;
mod quantile;
mod report;
mod setup;
mod stages;
pub mod test_clip;
mod text;

use std::{
    fmt::Display,
    io::{self, Write},
    path::PathBuf,
    time::Instant,
};

use clap::Args;
use concurrent::{ConcurrentArguments, Plan};
use cpu_contention::SchedStats;
use indicatif::ProgressBar;
use memory::Memory;
use nemostt::Error;
use report::{Report, Row};
use serde::Serialize;
use setup::Setup;

use crate::{
    Result,
    metrics_file::{MetricsArguments, Watched},
    model_args::ModelArguments,
    output_file,
};

/// Measure speed and memory of a model on this machine
///
/// Prints one line per lookahead. It takes about a minute with a small model and several minutes with a large one. Leave the
/// machine idle while it runs.
///
/// With --streams or --paced, prints one line per number of concurrent streams instead: how fast they are all together,
/// or how many of them are possible in real time.
#[derive(Debug, Args)]
#[command(after_long_help = METHOD)]
pub struct Bench {
    #[command(flatten)]
    model: ModelArguments,

    /// Lookaheads to measure, in milliseconds, separated by commas [default: all that the model supports; only the
    /// model's own with --streams or --paced]
    #[arg(long, value_name = "MS", value_delimiter = ',')]
    lookahead: Vec<u32>,

    /// Audio or video file with speech, of which at most one minute is used [default: a built-in clip of 25 s]
    #[arg(long)]
    file: Option<PathBuf>,

    /// Print one JSON document, with times in milliseconds and memory in bytes
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    concurrent: ConcurrentArguments,

    #[command(flatten)]
    metrics: MetricsArguments,
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
stream over eight more streams, and the peaks while loading and in total.

Concurrent streams are streams of one loaded model, with a thread each, at different positions of the clip. Their \
caches are full from the beginning. They are fed in blocks of 10 ms, as fast as they take them or, with --paced, when \
each block is due; the chunks of the streams then end at different times, evenly spread. The delay of a step is the \
time from when the last block of a chunk was due to its words; the first four of each stream are not counted. Streams \
keep up if none is late by a chunk or more at the end. A measurement ends early if one is two seconds late. A search \
doubles the number of streams until they do not keep up or the 99th percentile exceeds the bound, and then bisects to \
within 3 %: some 15 measurements. A batch is what is computed together of several streams; how long a step waits for \
its batch is counted in classes, within which the percentile is interpolated. CPU is the time of the whole process, with that of feeding the streams. Memory per \
stream includes its thread.";

impl Bench {
    pub fn run(&self) -> Result<()> {
        let progress = ProgressBar::new_spinner();
        let show = |text: String| {
            progress.set_message(text);
            progress.tick();
        };
        let output = match self.concurrent.plan() {
            None if self.metrics.is_requested() => {
                Err("--metrics-file applies to concurrent streams: add --streams or --paced".into())
            }
            None => self.measure(&show).and_then(|report| self.text(&report)),
            Some(plan) => self
                .metrics
                .during(|watched| self.measure_concurrent(plan, watched, &show)),
        };
        progress.finish_and_clear();
        Ok(io::stdout().write_all(output?.as_bytes())?)
    }

    fn text<R: Serialize + Display>(&self, report: &R) -> Result<String> {
        Ok(match self.json {
            true => serde_json::to_string_pretty(&report)? + "\n",
            false => report.to_string(),
        })
    }

    /// Measures concurrent streams, and returns the text of the report.
    fn measure_concurrent(&self, plan: Plan, watched: &Watched, show: &dyn Fn(String)) -> Result<String> {
        if self.lookahead.len() > 1 {
            return Err("--streams and --paced measure one lookahead: name only one with --lookahead".into());
        }
        let plot = self.concurrent.plot.as_deref();
        if let Some(path) = plot {
            output_file::check(path).map_err(|error| output_file::unwritable(path, &error))?;
        }
        show("loading the model".into());
        let recognizer = self.model.load(self.lookahead.first().copied())?;
        watched.add(&recognizer);
        let speech = test_clip::read(self.file.as_deref(), recognizer.config().front_end.sample_rate)?;
        let setup = Setup::new(self.model.name(), recognizer.config());
        let report = concurrent::measure(&recognizer, setup, speech, (plan, self.concurrent.audio()), show)?;
        if let Some(path) = plot {
            let svg = report.plot().to_string();
            output_file::store(path, svg.as_bytes()).map_err(|error| output_file::unwritable(path, &error))?;
        }
        self.text(&report)
    }

    fn measure(&self, show: &dyn Fn(String)) -> Result<Report> {
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

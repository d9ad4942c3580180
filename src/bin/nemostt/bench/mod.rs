// SPDX-License-Identifier: MIT OR Apache-2.0

//! `nemostt bench`: what this machine makes of a model.

mod cpu_contention;
mod max_streams;
mod memory;
mod report;
mod stages;
pub mod test_clip;

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

use crate::{Result, model_args::ModelArguments};

/// Measure how fast this machine runs a model, and how much memory that takes
///
/// Prints one line for each lookahead. It takes about a minute with a small model and some minutes with a large one. Let
/// the machine rest meanwhile.
#[derive(Debug, Args)]
#[command(after_long_help = METHOD)]
pub struct Bench {
    #[command(flatten)]
    model: ModelArguments,

    /// Lookaheads to measure, in milliseconds, with commas between them [default: all that the model allows]
    #[arg(long, value_name = "MS", value_delimiter = ',')]
    lookahead: Vec<u32>,

    /// Audio or video file with speech, of which one minute at most is heard [default: 25 s of speech, built in]
    #[arg(long)]
    file: Option<PathBuf>,

    /// One JSON document, times in milliseconds and memory in bytes
    #[arg(long)]
    json: bool,
}

/// A line for each paragraph: clap breaks them to the width of the terminal.
const METHOD: &str = "\
How it is measured

The model is loaded anew for each lookahead. \"Loading\" is the first time, with ONNX Runtime's own start, and the median of \
the others. Files that were read before come from the system's memory.

One stream hears the clip in pieces of 10 ms, over and over for at least three seconds. The real-time factor is all its \
computing divided by the length of the audio. The stages are means per chunk: the front end (samples to mel frames), the \
encoder, the decoder (RNN-T or CTC, and the putting together of words), and the rest (handing the words out). A step is what \
follows on the last 10 ms of a chunk, until its words are out: this delay comes on top of the lookahead.

Streams per core is the largest number of streams, each at another place of the clip, that one thread kept up with when it \
gave one chunk to each of them in turn. It leaves nothing to spare, and all cores at work at once may share caches and memory \
worse than one. It is measured with one thread, whatever --threads says.

Memory is what /proc says of this process: resident memory gained by loading the model and hearing the clip once, by each of \
eight more streams, and the most there ever was while loading and in all.";

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
        let say = |text: String| {
            progress.set_message(text);
            progress.tick();
        };
        say("loading the model".into());
        let before = memory::resident();
        let (start, recognizer) = (Instant::now(), self.model.load(self.lookahead.first().copied())?);
        let first_load = start.elapsed();
        let loading_peak = memory::peak();

        let config = recognizer.config().clone();
        let speech = test_clip::read(self.file.as_deref(), config.front_end.sample_rate)?;
        say("measuring memory".into());
        let memory = Memory::measure(&recognizer, &speech, before, loading_peak)?;
        drop(recognizer);

        let lookaheads = match self.lookahead.as_slice() {
            [] => {
                let frame = config.frame_samples() * 1000 / u64::from(config.front_end.sample_rate);
                let frames = config.streaming.lookaheads().into_iter();
                frames.map(|frames| frames as u32 * frame as u32).collect()
            }
            asked => asked.to_vec(),
        };
        let then = SchedStats::now();
        let (mut rows, mut loads) = (Vec::new(), Vec::new());
        for lookahead in lookaheads {
            say(format!("lookahead {lookahead} ms: one stream"));
            let (start, loaded) = (Instant::now(), self.model.load(Some(lookahead)));
            let recognizer = match loaded {
                // The graph allows more than the model was trained for.
                Err(Error::Lookahead { .. }) if self.lookahead.is_empty() => continue,
                loaded => loaded?,
            };
            loads.push(start.elapsed());
            let stages = stages::measure(&recognizer, &speech)?;

            say(format!("lookahead {lookahead} ms: streams on one core"));
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
            self.model.name(),
            &config,
            (first_load, loads),
            memory,
            waiting,
            rows,
        ))
    }
}

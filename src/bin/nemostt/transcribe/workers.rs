// SPDX-License-Identifier: MIT OR Apache-2.0

//! Workers that transcribe one file after another. They share a recognizer if it computes streams together; otherwise each has
//! its own, because streams of one recognizer then run one at a time.

use std::{
    path::PathBuf,
    sync::{
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use nemostt::Recognizer;

use super::{
    args::Transcribe,
    job::{Job, Stats},
    progress::{self, Bars},
    stream_setup::StreamSetup,
};
use crate::{Result, audio::Location, interrupt, metrics_file::Watched, output_file};

/// More jobs with one model would open too many files and decoders at the same time.
const MAX_JOBS: usize = 16;

/// The result of one file, or an error message.
pub type Outcome = std::result::Result<Done, String>;

/// A transcribed file.
pub struct Done {
    /// The text for standard output; empty if it was written to a file.
    pub text: Vec<u8>,
    pub stats: Stats,
    /// Why the transcript is incomplete, in one line.
    pub fault: Option<String>,
}

/// How many files to transcribe in parallel.
pub fn jobs(arguments: &Transcribe, recognizer: &Recognizer) -> usize {
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    match (arguments.jobs, recognizer.config().threads) {
        (Some(jobs), _) => jobs.into(),
        // Each job also decodes a file.
        (None, _) if recognizer.parallel_streams() > 1 => recognizer.parallel_streams().min(MAX_JOBS.max(cores())),
        // One thread per core: the model uses them all.
        (None, 0) => 1,
        (None, threads) => (cores() / threads).max(1),
    }
}

/// Workers that share a queue of files.
pub struct WorkerPool<'a> {
    pub arguments: &'a Transcribe,
    pub locations: &'a [Location],
    pub targets: &'a [Option<PathBuf>],
    /// `None` if there is nothing to transcribe.
    pub setup: Option<&'a StreamSetup>,
    /// Indices of the files to transcribe.
    pub pending: &'a [usize],
    /// The next of them.
    pub next: AtomicUsize,
    /// Set when results are no longer needed.
    pub stop: AtomicBool,
    pub bars: &'a Bars,
    /// Models whose metrics are written.
    pub watched: &'a Watched,
}

impl WorkerPool<'_> {
    /// Transcribes files until none is left, and sends their indices and results.
    pub fn run_worker(&self, mut recognizer: Option<Recognizer>, outcomes: &mpsc::Sender<(usize, Outcome)>) {
        while let Some(&number) = self.pending.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = self
                .transcribe(number, &mut recognizer)
                .map_err(|error| error.to_string());
            // Sending fails once the receiver is gone.
            if outcomes.send((number, outcome)).is_err() || self.stop.load(Ordering::Relaxed) {
                break;
            }
        }
    }

    fn transcribe(&self, number: usize, recognizer: &mut Option<Recognizer>) -> Result<Done> {
        let arguments = self.arguments;
        let (location, target) = (&self.locations[number], self.targets[number].as_deref());
        let setup = self.setup.ok_or("no model was loaded")?;
        if interrupt::is_requested() {
            return Err(format!("{location} was not transcribed: interrupted before it began").into());
        }
        let recognizer = match recognizer {
            Some(recognizer) => recognizer,
            None => {
                let loaded = recognizer.insert(arguments.model.load(arguments.speech.lookahead)?);
                self.watched.add(loaded);
                loaded
            }
        };
        let rate = recognizer.config().front_end.sample_rate;
        let job = Job {
            location,
            arguments,
            setup,
            stop: &self.stop,
        };
        let several = self.locations.len() > 1;
        let (text, stats, fault) = job.run(
            recognizer,
            Vec::new(),
            several && target.is_none(),
            |samples| match several {
                true => self.bars.file(location.to_string(), samples),
                false => progress::alone(samples, rate),
            },
        )?;
        let Some(target) = target else {
            return Ok(Done { text, stats, fault });
        };
        output_file::store(target, &text).map_err(|error| output_file::unwritable(target, &error))?;
        Ok(Done {
            text: Vec::new(),
            stats,
            fault,
        })
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Workers that hear one file after the other, each with a recogniser of its own: streams of one recogniser take turns.

use std::{
    path::PathBuf,
    sync::{
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use gstnemostt::Recognizer;

use super::{
    args::Transcribe,
    job::{Effort, Job},
    progress::{self, Bars},
    target,
};
use crate::Result;

/// What becomes of one file: its text, unless that went to a file, or one line about what went wrong.
pub type Outcome = std::result::Result<(Vec<u8>, Effort), String>;

/// How many files to hear at once.
pub fn jobs(arguments: &Transcribe, recognizer: &Recognizer) -> usize {
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    match (arguments.jobs, recognizer.config().threads) {
        (Some(jobs), _) => jobs.into(),
        // One thread for each core: the model uses them all.
        (None, 0) => 1,
        (None, threads) => (cores() / threads).max(1),
    }
}

/// Workers that take one waiting file after the other.
pub struct Crew<'a> {
    pub arguments: &'a Transcribe,
    pub targets: &'a [Option<PathBuf>],
    /// Numbers of the files to hear.
    pub waiting: &'a [usize],
    /// The next of them.
    pub next: AtomicUsize,
    /// Nobody waits for texts any more.
    pub stop: AtomicBool,
    pub bars: &'a Bars,
}

impl Crew<'_> {
    /// Takes files until none is left, and gives their outcomes with their numbers.
    pub fn work(&self, mut recognizer: Option<Recognizer>, outcomes: &mpsc::Sender<(usize, Outcome)>) {
        while let Some(&number) = self.waiting.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = self.hear(number, &mut recognizer).map_err(|error| error.to_string());
            // Fails if nobody waits for it any more.
            if outcomes.send((number, outcome)).is_err() || self.stop.load(Ordering::Relaxed) {
                break;
            }
        }
    }

    fn hear(&self, number: usize, recognizer: &mut Option<Recognizer>) -> Result<(Vec<u8>, Effort)> {
        let arguments = self.arguments;
        let (file, target) = (arguments.files[number].as_path(), self.targets[number].as_deref());
        let recognizer = match recognizer {
            Some(recognizer) => recognizer,
            None => recognizer.insert(arguments.model.load(arguments.lookahead)?),
        };
        let rate = recognizer.config().front_end.sample_rate;
        let job = Job {
            file,
            arguments,
            stop: &self.stop,
        };
        let several = arguments.files.len() > 1;
        let (text, effort) = job.run(
            recognizer,
            Vec::new(),
            several && target.is_none(),
            |samples| match several {
                true => self.bars.file(file.display().to_string(), samples),
                false => progress::alone(samples, rate),
            },
        )?;
        let Some(target) = target else {
            return Ok((text, effort));
        };
        target::store(target, &text).map_err(|error| target::unwritable(target, &error))?;
        Ok((Vec::new(), effort))
    }
}

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

use nemostt::Recognizer;

use super::{
    args::Transcribe,
    job::{Job, Stats},
    output_path,
    progress::{self, Bars},
};
use crate::{Result, audio::Location, interrupt};

/// What becomes of one file, or one line about why nothing does.
pub type Outcome = std::result::Result<Done, String>;

/// A file that was heard.
pub struct Done {
    /// Unless it went to a file.
    pub text: Vec<u8>,
    pub effort: Stats,
    /// Why that is not all, in one line.
    pub fault: Option<String>,
}

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
pub struct WorkerPool<'a> {
    pub arguments: &'a Transcribe,
    pub places: &'a [Location],
    pub targets: &'a [Option<PathBuf>],
    /// Numbers of the files to hear.
    pub waiting: &'a [usize],
    /// The next of them.
    pub next: AtomicUsize,
    /// Nobody waits for texts any more.
    pub stop: AtomicBool,
    pub bars: &'a Bars,
}

impl WorkerPool<'_> {
    /// Takes files until none is left, and gives their outcomes with their numbers.
    pub fn run_worker(&self, mut recognizer: Option<Recognizer>, outcomes: &mpsc::Sender<(usize, Outcome)>) {
        while let Some(&number) = self.waiting.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = self
                .transcribe(number, &mut recognizer)
                .map_err(|error| error.to_string());
            // Fails if nobody waits for it any more.
            if outcomes.send((number, outcome)).is_err() || self.stop.load(Ordering::Relaxed) {
                break;
            }
        }
    }

    fn transcribe(&self, number: usize, recognizer: &mut Option<Recognizer>) -> Result<Done> {
        let arguments = self.arguments;
        let (place, target) = (&self.places[number], self.targets[number].as_deref());
        if interrupt::came() {
            return Err(format!("{place} was not transcribed: stopped before").into());
        }
        let recognizer = match recognizer {
            Some(recognizer) => recognizer,
            None => recognizer.insert(arguments.model.load(arguments.lookahead)?),
        };
        let rate = recognizer.config().front_end.sample_rate;
        let job = Job {
            place,
            arguments,
            stop: &self.stop,
        };
        let several = self.places.len() > 1;
        let (text, effort, fault) =
            job.run(
                recognizer,
                Vec::new(),
                several && target.is_none(),
                |samples| match several {
                    true => self.bars.file(place.to_string(), samples),
                    false => progress::alone(samples, rate),
                },
            )?;
        let Some(target) = target else {
            return Ok(Done { text, effort, fault });
        };
        output_path::store(target, &text).map_err(|error| output_path::unwritable(target, &error))?;
        Ok(Done {
            text: Vec::new(),
            effort,
            fault,
        })
    }
}

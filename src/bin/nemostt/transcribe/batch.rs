// SPDX-License-Identifier: MIT OR Apache-2.0

//! Several files at once. Each worker has a recogniser of its own, for streams of one recogniser take turns.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Instant,
};

use gstnemostt::Recognizer;

use super::{
    args::Transcribe,
    job::{self, Effort, Job},
    progress::{self, Bars},
    stats, target,
};
use crate::{Result, audio};

/// What becomes of one file: its text, unless that went to a file, or one line about what went wrong.
type Outcome = std::result::Result<(Vec<u8>, Effort), String>;

/// Hears all files. Texts and complaints come in the order of the files.
pub fn run(arguments: &Transcribe, targets: &[Option<PathBuf>]) -> Result<()> {
    let start = Instant::now();
    // The files to hear; what is known to fail already has its outcome.
    let (mut waiting, mut outcomes) = (Vec::new(), BTreeMap::new());
    for (number, (file, target)) in arguments.files.iter().zip(targets).enumerate() {
        match check(file, target.as_deref()) {
            Ok(()) => waiting.push(number),
            Err(error) => drop(outcomes.insert(number, Outcome::Err(error.to_string()))),
        }
    }
    let mut total = Effort::default();
    let mut failed = Vec::new();
    let mut report = |number: usize, outcome: Outcome, bars: &Bars| -> io::Result<()> {
        bars.advance();
        match outcome {
            Ok((text, effort)) => {
                total.seconds += effort.seconds;
                bars.aside(|| print(&text))
            }
            Err(error) => {
                if arguments.files.len() > 1 {
                    bars.aside(|| eprintln!("nemostt: {}", crate::one_line(&error)));
                }
                failed.push((number, error));
                Ok(())
            }
        }
    };

    let bars = Bars::new(arguments.files.len());
    let loading = Instant::now();
    // Without a file to hear, no model is needed to say so.
    let first = match waiting.is_empty() {
        true => None,
        false => Some(arguments.model.load(arguments.lookahead)?),
    };
    let loading = loading.elapsed();
    let jobs = first
        .as_ref()
        .map_or(0, |first| jobs(arguments, first))
        .min(waiting.len());
    let crew = Crew {
        arguments,
        targets,
        waiting: &waiting,
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        bars: &bars,
    };
    thread::scope(|scope| -> io::Result<()> {
        let (sender, receiver) = mpsc::channel();
        let mut first = first;
        for _ in 0..jobs {
            let (crew, sender, recognizer) = (&crew, sender.clone(), first.take());
            scope.spawn(move || crew.work(recognizer, &sender));
        }
        drop(sender);
        let mut result = Ok(());
        for number in 0..arguments.files.len() {
            while !outcomes.contains_key(&number)
                && let Ok((done, outcome)) = receiver.recv()
            {
                outcomes.insert(done, outcome);
            }
            if let Some(outcome) = outcomes.remove(&number)
                && result.is_ok()
            {
                result = report(number, outcome, &bars);
                // Nobody reads on.
                crew.stop.store(result.is_err(), Ordering::Relaxed);
            }
        }
        result
    })?;
    bars.clear();
    if arguments.stats {
        total.used = start.elapsed().saturating_sub(loading);
        eprintln!("{}", stats(total, loading));
    }
    match (failed.len(), failed.pop()) {
        (_, None) => Ok(()),
        (1, Some((_, error))) if arguments.files.len() == 1 => Err(error.into()),
        (count, _) => Err(format!("{count} of {} files failed", arguments.files.len()).into()),
    }
}

fn print(text: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text)
        .and_then(|()| stdout.flush())
        .map_err(job::unwritable)
}

/// What can be told before a model is loaded.
fn check(file: &Path, target: Option<&Path>) -> Result<()> {
    audio::check(file)?;
    match target {
        Some(target) => Ok(target::check(target).map_err(|error| unwritable(target, &error))?),
        None => Ok(()),
    }
}

fn unwritable(target: &Path, error: &io::Error) -> String {
    format!("cannot write {}: {error}", target.display())
}

/// How many files to hear at once.
fn jobs(arguments: &Transcribe, recognizer: &Recognizer) -> usize {
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    match (arguments.jobs, recognizer.config().threads) {
        (Some(jobs), _) => jobs.into(),
        // One thread for each core: the model uses them all.
        (None, 0) => 1,
        (None, threads) => (cores() / threads).max(1),
    }
}

/// Workers that take one waiting file after the other.
struct Crew<'a> {
    arguments: &'a Transcribe,
    targets: &'a [Option<PathBuf>],
    /// Numbers of the files to hear.
    waiting: &'a [usize],
    /// The next of them.
    next: AtomicUsize,
    stop: AtomicBool,
    bars: &'a Bars,
}

impl Crew<'_> {
    fn work(&self, mut recognizer: Option<Recognizer>, outcomes: &mpsc::Sender<(usize, Outcome)>) {
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
        target::store(target, &text).map_err(|error| unwritable(target, &error))?;
        Ok((Vec::new(), effort))
    }
}

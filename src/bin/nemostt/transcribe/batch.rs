// SPDX-License-Identifier: MIT OR Apache-2.0

//! Several files in parallel, with their results in order.

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

use super::{
    args::Transcribe,
    job::{self, Stats},
    progress::Bars,
    stats,
    stream_setup::StreamOptions,
    workers::{self, Outcome, WorkerPool},
};
use crate::{Result, audio::Location, metrics_file::Watched, output_file};

/// Transcribes all files. Texts and errors are printed in the order of the files.
pub fn run(
    arguments: &Transcribe,
    locations: &[Location],
    targets: &[Option<PathBuf>],
    options: StreamOptions,
    watched: &Watched,
) -> Result<()> {
    // The files to transcribe. Those known to fail already have their result.
    let (mut pending, mut outcomes) = (Vec::new(), BTreeMap::new());
    for (number, (location, target)) in locations.iter().zip(targets).enumerate() {
        match check(location, target.as_deref()) {
            Ok(()) => pending.push(number),
            Err(error) => drop(outcomes.insert(number, Outcome::Err(error.to_string()))),
        }
    }
    let start = Instant::now();
    // If no file can be read, the model is not loaded.
    let mut first = match pending.is_empty() {
        true => None,
        false => Some(arguments.model.load(arguments.speech.lookahead)?),
    };
    // Its tokens are those of every copy of the model.
    let setup = first
        .as_ref()
        .map(|recognizer| options.for_model(recognizer))
        .transpose()?;
    let loading = start.elapsed();
    first.iter().for_each(|recognizer| watched.add(recognizer));
    let jobs = first.as_ref().map_or(0, |first| workers::jobs(arguments, first));

    let bars = Bars::new(locations.len());
    let pool = WorkerPool {
        arguments,
        locations,
        targets,
        setup: setup.as_ref(),
        pending: &pending,
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        bars: &bars,
        watched,
    };
    let mut summary = BatchSummary::new(locations.len(), &bars);
    let printed = thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..jobs.min(pending.len()) {
            let shared = first.clone().filter(|recognizer| recognizer.parallel_streams() > 1);
            let (pool, sender, recognizer) = (&pool, sender.clone(), shared.or_else(|| first.take()));
            scope.spawn(move || pool.run_worker(recognizer, &sender));
        }
        drop(sender);
        let printed = summary.take_in_order(outcomes, &receiver);
        // After a write error, the workers need not go on.
        pool.stop.store(true, Ordering::Relaxed);
        printed
    });
    bars.clear();
    printed?;
    if arguments.stats {
        summary.total.used = start.elapsed().saturating_sub(loading);
        eprintln!("{}", stats(summary.total, loading));
    }
    summary.verdict()
}

/// Finds errors that need no model.
fn check(location: &Location, target: Option<&Path>) -> Result<()> {
    location.check()?;
    match target {
        Some(target) => Ok(output_file::check(target).map_err(|error| output_file::unwritable(target, &error))?),
        None => Ok(()),
    }
}

/// Prints results and counts them.
struct BatchSummary<'a> {
    files: usize,
    bars: &'a Bars,
    total: Stats,
    /// Error messages.
    failed: Vec<String>,
}

impl<'a> BatchSummary<'a> {
    fn new(files: usize, bars: &'a Bars) -> Self {
        Self {
            files,
            bars,
            total: Stats::default(),
            failed: Vec::new(),
        }
    }

    /// Handles results, those in `outcomes` and those that `more` receives, in the order of the files.
    fn take_in_order(
        &mut self,
        mut outcomes: BTreeMap<usize, Outcome>,
        more: &mpsc::Receiver<(usize, Outcome)>,
    ) -> io::Result<()> {
        for number in 0..self.files {
            while !outcomes.contains_key(&number)
                && let Ok((done, outcome)) = more.recv()
            {
                outcomes.insert(done, outcome);
            }
            if let Some(outcome) = outcomes.remove(&number) {
                self.take(outcome)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, outcome: Outcome) -> io::Result<()> {
        self.bars.advance();
        match outcome {
            Ok(done) => {
                self.total.seconds += done.stats.seconds;
                self.bars.suspend(|| print(&done.text))?;
                if let Some(fault) = done.fault {
                    self.fail(fault);
                }
            }
            Err(error) => self.fail(error),
        }
        Ok(())
    }

    fn fail(&mut self, error: String) {
        if self.files > 1 {
            self.bars.suspend(|| eprintln!("nemostt: {}", crate::one_line(&error)));
        }
        self.failed.push(error);
    }

    fn verdict(mut self) -> Result<()> {
        match (self.failed.len(), self.failed.pop()) {
            (_, None) => Ok(()),
            (_, Some(error)) if self.files == 1 => Err(error.into()),
            (count, _) => Err(format!("{count} of {} files failed", self.files).into()),
        }
    }
}

fn print(text: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text).and_then(|()| stdout.flush());
    written.map_err(job::unwritable)
}

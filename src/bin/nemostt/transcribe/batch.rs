// SPDX-License-Identifier: MIT OR Apache-2.0

//! Several files at once, and their outcomes in order.

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
    output_path,
    progress::Bars,
    stats,
    workers::{self, Outcome, WorkerPool},
};
use crate::{Result, audio::Location};

/// Hears all files. Texts and complaints come in the order of the files.
pub fn run(arguments: &Transcribe, places: &[Location], targets: &[Option<PathBuf>]) -> Result<()> {
    // The files to hear; what is known to fail already has its outcome.
    let (mut waiting, mut outcomes) = (Vec::new(), BTreeMap::new());
    for (number, (place, target)) in places.iter().zip(targets).enumerate() {
        match check(place, target.as_deref()) {
            Ok(()) => waiting.push(number),
            Err(error) => drop(outcomes.insert(number, Outcome::Err(error.to_string()))),
        }
    }
    let start = Instant::now();
    // Without a file to hear, no model is needed to say so.
    let mut first = match waiting.is_empty() {
        true => None,
        false => Some(arguments.model.load(arguments.lookahead)?),
    };
    let loading = start.elapsed();
    let jobs = first.as_ref().map_or(0, |first| workers::jobs(arguments, first));

    let bars = Bars::new(places.len());
    let pool = WorkerPool {
        arguments,
        places,
        targets,
        waiting: &waiting,
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        bars: &bars,
    };
    let mut tally = BatchSummary::new(places.len(), &bars);
    let printed = thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..jobs.min(waiting.len()) {
            let (pool, sender, recognizer) = (&pool, sender.clone(), first.take());
            scope.spawn(move || pool.run_worker(recognizer, &sender));
        }
        drop(sender);
        let printed = tally.take_in_order(outcomes, &receiver);
        // If that failed, nobody reads on.
        pool.stop.store(true, Ordering::Relaxed);
        printed
    });
    bars.clear();
    printed?;
    if arguments.stats {
        tally.total.used = start.elapsed().saturating_sub(loading);
        eprintln!("{}", stats(tally.total, loading));
    }
    tally.verdict()
}

/// What can be told before a model is loaded.
fn check(place: &Location, target: Option<&Path>) -> Result<()> {
    place.check()?;
    match target {
        Some(target) => Ok(output_path::check(target).map_err(|error| output_path::unwritable(target, &error))?),
        None => Ok(()),
    }
}

/// Prints what comes of the files, and counts.
struct BatchSummary<'a> {
    files: usize,
    bars: &'a Bars,
    total: Stats,
    /// What went wrong.
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

    /// Takes the outcomes that are there and those that come, in the order of their numbers.
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
                self.total.seconds += done.effort.seconds;
                self.bars.aside(|| print(&done.text))?;
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
            self.bars.aside(|| eprintln!("nemostt: {}", crate::one_line(&error)));
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

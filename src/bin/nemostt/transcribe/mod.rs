// SPDX-License-Identifier: MIT OR Apache-2.0

//! `nemostt transcribe`: files in, texts and subtitles out.

mod args;
mod batch;
mod cues;
mod job;
mod output;
mod output_path;
mod progress;
mod workers;

use std::{
    io::{self, IsTerminal},
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

pub use args::Transcribe;
use indicatif::ProgressBar;
use job::{Job, Stats};
use output::Format;

use crate::{Result, audio::Location, interrupt};

impl Transcribe {
    pub fn run(&self) -> Result<()> {
        let places = self.places();
        if self.raw && !places.contains(&Location::StandardInput) {
            return Err(
                "--raw is about standard input, and `-` is not among the files: name it, or leave --raw out".into(),
            );
        }
        let targets = output_path::targets(self, &places)?;
        if places.iter().any(|place| !matches!(place, Location::File(_))) {
            let caught = interrupt::catch();
            caught.map_err(|error| format!("the system does not let the program handle Ctrl-C: {error}"))?;
        }
        match (places.as_slice(), targets.as_slice()) {
            ([place], [None]) => self.transcribe_to_stdout(place),
            _ => batch::run(self, &places, &targets),
        }
    }

    /// Writes each word of the one file to standard output as soon as it is known.
    fn transcribe_to_stdout(&self, place: &Location) -> Result<()> {
        place.check()?;
        let loading = Instant::now();
        let recognizer = self.model.load(self.lookahead)?;
        let loading = loading.elapsed();

        // Words that appear on the same terminal show the progress themselves, and a bar would run over them.
        let words_appear = self.format() != Format::Json && io::stdout().is_terminal();
        let rate = recognizer.config().front_end.sample_rate;
        let job = Job {
            place,
            arguments: self,
            stop: &AtomicBool::new(false),
        };
        let (_, effort, fault) = job.run(&recognizer, io::stdout().lock(), false, |samples| match words_appear {
            true => ProgressBar::hidden(),
            false => progress::alone(samples, rate),
        })?;
        if self.stats {
            eprintln!("{}", stats(effort, loading));
        }
        fault.map_or(Ok(()), |fault| Err(fault.into()))
    }
}

/// One line about what was heard.
fn stats(effort: Stats, loading: Duration) -> String {
    let Stats { seconds, used } = effort;
    let used = used.as_secs_f64();
    let factor = if seconds > 0.0 { used / seconds } else { 0.0 };
    format!(
        "{seconds:.2} s of audio in {used:.2} s: real-time factor {factor:.3} (the model took {:.2} s more to load)",
        loading.as_secs_f64()
    )
}

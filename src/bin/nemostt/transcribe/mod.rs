// SPDX-License-Identifier: MIT OR Apache-2.0

//! `nemostt transcribe`: from files to text and subtitles.

mod args;
mod batch;
mod job;
mod output;
mod output_path;
mod progress;
mod stream_setup;
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
use stream_setup::StreamOptions;

use crate::{Result, audio::Location, interrupt, metrics_file::Watched};

impl Transcribe {
    pub fn run(&self) -> Result<()> {
        let locations = self.locations();
        if self.raw && !locations.contains(&Location::StandardInput) {
            return Err(
                "--raw applies to standard input, and `-` is not among the files: add `-` or omit --raw".into(),
            );
        }
        if self.cues.is_given() && !matches!(self.format(), Format::Srt | Format::Vtt) {
            return Err("the options --cue-… apply to subtitles: add --srt or --vtt".into());
        }
        self.cues.rules()?;
        self.check_decoding()?;
        let targets = output_path::targets(self, &locations)?;
        let options = StreamOptions::of(self)?;
        if locations.iter().any(|location| !matches!(location, Location::File(_))) {
            let caught = interrupt::catch();
            caught.map_err(|error| format!("cannot install a handler for Ctrl-C: {error}"))?;
        }
        self.metrics
            .during(|watched| match (locations.as_slice(), targets.as_slice()) {
                ([location], [None]) => self.transcribe_to_stdout(location, options, watched),
                _ => batch::run(self, &locations, &targets, options, watched),
            })
    }

    /// Writes each word of a single file to standard output as soon as it is final.
    fn transcribe_to_stdout(&self, location: &Location, options: StreamOptions, watched: &Watched) -> Result<()> {
        location.check()?;
        let loading = Instant::now();
        let recognizer = self.model.load(self.speech.lookahead)?;
        let setup = options.for_model(&recognizer)?;
        let loading = loading.elapsed();
        watched.add(&recognizer);

        // On a terminal the words themselves show the progress, and a bar would overwrite them.
        let shows_words = self.format() != Format::Json && io::stdout().is_terminal();
        let rate = recognizer.config().front_end.sample_rate;
        let job = Job {
            location,
            arguments: self,
            setup: &setup,
            stop: &AtomicBool::new(false),
        };
        let (_, job_stats, fault) = job.run(&recognizer, io::stdout().lock(), false, |samples| match shows_words {
            true => ProgressBar::hidden(),
            false => progress::alone(samples, rate),
        })?;
        if self.stats {
            eprintln!("{}", stats(job_stats, loading));
        }
        fault.map_or(Ok(()), |fault| Err(fault.into()))
    }
}

/// One line of statistics.
fn stats(stats: Stats, loading: Duration) -> String {
    let Stats { seconds, used } = stats;
    let used = used.as_secs_f64();
    let factor = if seconds > 0.0 { used / seconds } else { 0.0 };
    format!(
        "{seconds:.2} s of audio in {used:.2} s: real-time factor {factor:.3} (plus {:.2} s to load the model)",
        loading.as_secs_f64()
    )
}

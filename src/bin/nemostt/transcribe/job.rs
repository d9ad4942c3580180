// SPDX-License-Identifier: MIT OR Apache-2.0

//! One file on its way through the recogniser.

use std::{
    io::{self, Write},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use indicatif::ProgressBar;
use nemostt::{Event, Recognizer, Stream};

use super::{args::Transcribe, output::Output};
use crate::{
    Result,
    audio::{self, Input, Location},
    interrupt,
};

/// A file may be this much shorter than it says, in seconds: players and writers count ends differently.
const SLACK: f64 = 0.5;
/// The same, as a part of the whole, where the length can be an estimate.
const SLACK_OF_ESTIMATE: f64 = 0.1;

/// What it took to hear a file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stats {
    /// Of audio, in seconds.
    pub seconds: f64,
    pub used: Duration,
}

/// One file.
pub struct Job<'a> {
    pub place: &'a Location,
    pub arguments: &'a Transcribe,
    /// Nobody waits for the text any more.
    pub stop: &'a AtomicBool,
}

impl Job<'_> {
    /// Writes what is said in the file to `writer`; with its name if it is one of `several` texts there. `bar` makes the
    /// progress bar for a number of samples. Gives back one line, too, if the file is cut short.
    ///
    /// # Errors
    /// One line that names the file; writing errors as they are.
    pub fn run<W: Write>(
        &self,
        recognizer: &Recognizer,
        writer: W,
        several: bool,
        bar: impl FnOnce(Option<u64>) -> ProgressBar,
    ) -> Result<(W, Stats, Option<String>)> {
        let start = Instant::now();
        let config = recognizer.config();
        let rate = config.front_end.sample_rate;
        let mut input = Input::open(self.place, rate, &self.arguments.wanted())?;
        let mut stream = recognizer.stream().map_err(|error| self.named(&error))?;
        if let Some(language) = &self.arguments.language {
            stream.set_language(language)?;
        }

        let name = self.place.name();
        let mut output = Output::new(
            self.arguments.format(),
            writer,
            name,
            self.arguments.model.name(),
            config,
        );
        if several {
            output = output.labeled();
        }
        let bar = bar(input.samples());
        if let Some(notice) = input.notice() {
            bar.suspend(|| eprintln!("nemostt: {}", crate::one_line(notice)));
        }
        let result = self.transcribe(&mut input, &mut stream, &mut output, &bar);
        bar.finish_and_clear();
        if result.is_err() {
            // The first error is the one to tell.
            let _ = output.abandon();
        }
        result?;
        let effort = Stats {
            seconds: stream.samples() as f64 / f64::from(rate),
            used: start.elapsed(),
        };
        let fault = self.fault(&input, effort.seconds, rate);
        Ok((output.into_writer(), effort, fault))
    }

    /// Feeds all of `input` and the padding.
    fn transcribe<W: Write>(
        &self,
        input: &mut Input,
        stream: &mut Stream,
        output: &mut Output<W>,
        bar: &ProgressBar,
    ) -> Result<()> {
        let mut samples = Vec::new();
        input.read(&mut samples)?;
        if samples.is_empty() && !interrupt::came() {
            return Err(input.emptiness().into());
        }
        // Only now: for a file that cannot be read, the error alone is printed.
        if let Some(notice) = self.arguments.model.notice() {
            bar.suspend(|| eprintln!("nemostt: {notice}"));
        }
        output.begin().map_err(unwritable)?;
        while !samples.is_empty() {
            if self.stop.load(Ordering::Relaxed) {
                return Err(format!("{} was not heard to its end", self.place).into());
            }
            stream.accept(&samples).map_err(|error| self.named(&error))?;
            write_words(stream, output).map_err(unwritable)?;
            bar.set_position(stream.samples());
            input.read(&mut samples)?;
        }
        let padding = u64::from(self.arguments.eos_padding) * u64::from(output.rate()) / 1000;
        stream.finish(padding).map_err(|error| self.named(&error))?;
        write_words(stream, output).map_err(unwritable)?;
        output.finish(stream.samples()).map_err(unwritable)?;
        Ok(())
    }

    /// Why `heard` seconds are not all of the file, if so. What the format knows at the end counts: estimates have become
    /// true by then.
    fn fault(&self, input: &Input, heard: f64, rate: u32) -> Option<String> {
        let seconds = |samples: u64| samples as f64 / f64::from(rate);
        let place = self.place;
        if let (Some(announced), Some(reached)) = (input.samples().map(seconds), input.reached().map(seconds)) {
            let slack = match input.is_length_estimated() {
                true => SLACK + SLACK_OF_ESTIMATE * announced,
                false => SLACK,
            };
            if announced > reached + slack {
                return Some(match interrupt::came() {
                    true => format!("{place} was stopped after {heard:.1} of {announced:.1} s"),
                    false => format!(
                        "{place} is cut short: its sound ends after {heard:.1} of {announced:.1} s. What is there was \
                         transcribed"
                    ),
                });
            }
        }
        let why = audio::fault(place)?;
        Some(format!(
            "{place} is cut short: {why}, and its sound ends after {heard:.1} s. What is there was transcribed"
        ))
    }

    fn named(&self, error: &nemostt::Error) -> String {
        format!("{}: {error}", self.place)
    }
}

/// Only standard output can fail here: texts for files are collected in memory.
pub fn unwritable(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write standard output: {error}"))
}

fn write_words<W: Write>(stream: &mut Stream, output: &mut Output<W>) -> io::Result<()> {
    while let Some(event) = stream.next_event() {
        if let Event::Word(word) = event {
            output.word(&word)?;
        }
    }
    Ok(())
}

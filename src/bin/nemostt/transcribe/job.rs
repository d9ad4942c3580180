// SPDX-License-Identifier: MIT OR Apache-2.0

//! Transcribes one file.

use std::{
    io::{self, Write},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use indicatif::ProgressBar;
use nemostt::{Recognizer, Stream, StreamClass, cues::CueBuilder};

use super::{args::Transcribe, output::Output, stream_setup::StreamSetup};
use crate::{
    Result,
    audio::{self, Input, Location},
    interrupt,
};

/// Seconds by which a file may be shorter than its declared duration: players and writers round differently.
const SLACK: f64 = 0.5;
/// Additional tolerance, as a share of the duration, where the duration is an estimate.
const SLACK_OF_ESTIMATE: f64 = 0.1;

/// How often a stream that waits for a server tries again, if it is time to.
const SERVER_POLL: Duration = Duration::from_millis(50);

/// How long a transcription took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stats {
    /// Duration of the audio, in seconds.
    pub seconds: f64,
    pub used: Duration,
}

/// One file.
pub struct Job<'a> {
    pub location: &'a Location,
    pub arguments: &'a Transcribe,
    pub setup: &'a StreamSetup,
    /// Set when the text is no longer needed.
    pub stop: &'a AtomicBool,
}

impl Job<'_> {
    /// Writes the transcript to `writer`, prefixed with the file's name if there are `several` texts. `bar` makes the progress
    /// bar for a number of samples. Also returns a message if the file is truncated.
    ///
    /// # Errors
    /// One line that names the file, or the write error.
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
        let mut input = Input::open(self.location, rate, &self.arguments.selection())?;
        let mut stream = recognizer.stream().map_err(|error| self.with_location(&error))?;
        stream.set_class(StreamClass::File);
        stream.set_returns_while_waiting(true);
        self.setup.apply(&mut stream)?;

        let name = self.location.name();
        let cues = CueBuilder::new(self.arguments.cues.rules()?).map_err(|error| error.to_string())?;
        let mut output = Output::new(
            self.arguments.format(),
            cues,
            writer,
            name,
            self.arguments.model.name(),
            config,
        );
        if several {
            output = output.with_file_name();
        }
        let bar = bar(input.samples());
        if let Some(notice) = input.notice() {
            bar.suspend(|| eprintln!("nemostt: {}", crate::one_line(notice)));
        }
        let result = self.transcribe(&mut input, &mut stream, &mut output, &bar);
        bar.finish_and_clear();
        if result.is_err() {
            // The first error is the one to report.
            let _ = output.abandon();
        }
        result?;
        let stats = Stats {
            seconds: stream.samples() as f64 / f64::from(rate),
            used: start.elapsed(),
        };
        let fault = self.fault(&input, stats.seconds, rate);
        Ok((output.into_writer(), stats, fault))
    }

    /// Transcribes all of `input`, and the padding.
    fn transcribe<W: Write>(
        &self,
        input: &mut Input,
        stream: &mut Stream,
        output: &mut Output<W>,
        bar: &ProgressBar,
    ) -> Result<()> {
        let mut samples = Vec::new();
        input.read(&mut samples)?;
        if samples.is_empty() && !interrupt::is_requested() {
            return Err(input.no_samples_error().into());
        }
        // Only now: for a file that cannot be read, the error alone is printed.
        if let Some(notice) = self.arguments.model.notice() {
            bar.suspend(|| eprintln!("nemostt: {notice}"));
        }
        output.begin().map_err(unwritable)?;
        while !samples.is_empty() {
            if self.stop.load(Ordering::Relaxed) {
                return Err(format!("{} was not transcribed to its end", self.location).into());
            }
            stream.accept(&samples).map_err(|error| self.with_location(&error))?;
            self.follow_server(stream, bar)?;
            write_events(stream, output).map_err(unwritable)?;
            output.advance(stream.stable_until()).map_err(unwritable)?;
            bar.set_position(stream.samples());
            input.read(&mut samples)?;
        }
        let padding = u64::from(self.arguments.eos_padding) * u64::from(output.rate()) / 1000;
        stream.finish(padding).map_err(|error| self.with_location(&error))?;
        self.follow_server(stream, bar)?;
        write_events(stream, output).map_err(unwritable)?;
        output.finish(stream.samples()).map_err(unwritable)?;
        Ok(())
    }

    /// Says where the encoder runs if that changes, and waits for a server if the stream does.
    fn follow_server(&self, stream: &mut Stream, bar: &ProgressBar) -> Result<()> {
        loop {
            #[cfg(feature = "triton")]
            while let Some(change) = stream.take_remote_change() {
                let line = format!("nemostt: {}: {}", self.location, crate::one_line(&change.text));
                bar.suspend(|| eprintln!("{line}"));
            }
            #[cfg(not(feature = "triton"))]
            let _ = bar;
            if !stream.is_waiting() {
                return Ok(());
            }
            if self.stop.load(Ordering::Relaxed) || interrupt::is_requested() {
                return Err(format!("{} was not transcribed to its end", self.location).into());
            }
            thread::sleep(SERVER_POLL);
            stream.retry().map_err(|error| self.with_location(&error))?;
        }
    }

    /// A message if the file is truncated or corrupt. It is truncated if less than its duration was transcribed. The duration is
    /// read at the end, when estimates have become exact.
    fn fault(&self, input: &Input, transcribed: f64, rate: u32) -> Option<String> {
        let seconds = |samples: u64| samples as f64 / f64::from(rate);
        let location = self.location;
        if let (Some(declared), Some(reached)) = (input.samples().map(seconds), input.reached().map(seconds)) {
            let slack = match input.is_length_estimated() {
                true => SLACK + SLACK_OF_ESTIMATE * declared,
                false => SLACK,
            };
            if declared > reached + slack {
                return Some(match interrupt::is_requested() {
                    true => format!("{location} was interrupted after {transcribed:.1} of {declared:.1} s"),
                    false => format!(
                        "{location} is truncated: its audio ends after {transcribed:.1} of {declared:.1} s; the text up to \
                         there was written"
                    ),
                });
            }
        }
        if let Some(reason) = audio::fault(location) {
            return Some(format!(
                "{location} is truncated: {reason}, and its audio ends after {transcribed:.1} s; the text up to there was written"
            ));
        }
        input.has_invalid_samples().then(|| {
            format!(
                "{location} is corrupt: some of its samples are not numbers, or far too large; the text was written as if they \
                 were silence"
            )
        })
    }

    fn with_location(&self, error: &nemostt::Error) -> String {
        format!("{}: {error}", self.location)
    }
}

/// A write error, which can only be one of standard output: texts for files are collected in memory.
pub fn unwritable(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write standard output: {error}"))
}

fn write_events<W: Write>(stream: &mut Stream, output: &mut Output<W>) -> io::Result<()> {
    while let Some(event) = stream.next_event() {
        output.event(&event)?;
    }
    Ok(())
}

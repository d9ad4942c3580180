// SPDX-License-Identifier: MIT OR Apache-2.0

//! One file on its way through the recogniser.

use std::{
    io::{self, Write},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use gstnemostt::{Event, Recognizer, Stream};
use indicatif::ProgressBar;

use super::{args::Transcribe, output::Output};
use crate::{Result, audio::Input};

/// What it took to hear a file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Effort {
    /// Of audio, in seconds.
    pub seconds: f64,
    pub used: Duration,
}

/// One file.
pub struct Job<'a> {
    pub file: &'a Path,
    pub arguments: &'a Transcribe,
    /// Nobody waits for the text any more.
    pub stop: &'a AtomicBool,
}

impl Job<'_> {
    /// Writes what is said in the file to `writer`; with its name if it is one of `several` texts there. `bar` makes the
    /// progress bar for a number of samples.
    ///
    /// # Errors
    /// One line that names the file; writing errors as they are.
    pub fn run<W: Write>(
        &self,
        recognizer: &Recognizer,
        writer: W,
        several: bool,
        bar: impl FnOnce(Option<u64>) -> ProgressBar,
    ) -> Result<(W, Effort)> {
        let start = Instant::now();
        let config = recognizer.config();
        let rate = config.front_end.sample_rate;
        let mut input = Input::open(self.file, rate)?;
        let mut stream = recognizer.stream().map_err(|error| self.named(&error))?;
        if let Some(language) = &self.arguments.language {
            stream.set_language(language)?;
        }

        let name = self.file.display().to_string();
        let mut output = Output::new(
            self.arguments.format(),
            writer,
            name,
            self.arguments.model.name(),
            config,
        );
        if several {
            output = output.labelled();
        }
        let bar = bar(input.samples());
        let result = self.hear(&mut input, &mut stream, &mut output, &bar);
        if result.is_ok() {
            // What the format knows better at the end: estimates have become true by then.
            self.warn(stream.samples(), input.samples(), rate, &bar);
        }
        bar.finish_and_clear();
        if result.is_err() {
            // The first error is the one to tell.
            let _ = output.abandon();
        }
        result?;
        let effort = Effort {
            seconds: stream.samples() as f64 / f64::from(rate),
            used: start.elapsed(),
        };
        Ok((output.into_writer(), effort))
    }

    /// Feeds all of `input` and the padding.
    fn hear<W: Write>(
        &self,
        input: &mut Input,
        stream: &mut Stream,
        output: &mut Output<W>,
        bar: &ProgressBar,
    ) -> Result<()> {
        output.begin().map_err(unwritable)?;
        let mut samples = Vec::new();
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(format!("{} was not heard to its end", self.file.display()).into());
            }
            input.read(&mut samples)?;
            if samples.is_empty() {
                break;
            }
            stream.accept(&samples).map_err(|error| self.named(&error))?;
            write_words(stream, output).map_err(unwritable)?;
            bar.set_position(stream.samples());
        }
        let padding = u64::from(self.arguments.eos_padding) * u64::from(output.rate()) / 1000;
        stream.finish(padding).map_err(|error| self.named(&error))?;
        write_words(stream, output).map_err(unwritable)?;
        output.finish(stream.samples()).map_err(unwritable)?;
        Ok(())
    }

    /// Says so if the sound ends much sooner than the file tells. No error: in a film the pictures may go on.
    fn warn(&self, heard: u64, announced: Option<u64>, rate: u32, bar: &ProgressBar) {
        let much = u64::from(rate) + heard / 10;
        if let Some(announced) = announced.filter(|&announced| announced > heard + much) {
            let [heard, announced] = [heard, announced].map(|samples| samples as f64 / f64::from(rate));
            let file = self.file.display();
            bar.suspend(|| {
                eprintln!("nemostt: the sound of {file} ends after {heard:.1} of {announced:.1} s: is it whole?")
            });
        }
    }

    fn named(&self, error: &gstnemostt::Error) -> String {
        format!("{}: {error}", self.file.display())
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

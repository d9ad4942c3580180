// SPDX-License-Identifier: MIT OR Apache-2.0

//! Writes down what is said in a WAV file or on standard input: the recogniser without GStreamer.
//!
//! ```sh
//! cargo run --release --example transcribe -- assets/demo.wav
//! arecord -t raw -f S16_LE -r 16000 | cargo run --release --example transcribe -- --lookahead 80 -
//! ```

mod args;
mod cues;
mod input;
mod output;

use std::{
    fs,
    io::{self, IsTerminal},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use args::Arguments;
use clap::Parser;
use gstnemostt::{Event, Options, Recognizer, Stream};
use indicatif::{ProgressBar, ProgressStyle};
use input::Input;
use output::{Format, Output};

/// Everything that can go wrong ends as one line of text.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Files shorter than this, in seconds, are done before anyone looks at a progress bar.
const WORTH_A_BAR: u64 = 10;

fn main() -> ExitCode {
    let Err(error) = run(&Arguments::parse()) else {
        return ExitCode::SUCCESS;
    };
    let pipe = error.downcast_ref::<io::Error>().map(io::Error::kind);
    if pipe == Some(io::ErrorKind::BrokenPipe) {
        // `transcribe … | head`: the reader has all it wants.
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    eprintln!("transcribe: {}", lines.join(" "));
    ExitCode::FAILURE
}

fn run(arguments: &Arguments) -> Result<()> {
    let mut input = Input::open(&arguments.file)?;
    let loading = Instant::now();
    let model = arguments.model();
    let recognizer = load(model.as_deref(), &arguments.options())?;
    let loading = loading.elapsed();
    let config = recognizer.config();
    let rate = config.front_end.sample_rate;
    input.check_rate(rate)?;

    let file = arguments.output.as_deref();
    if file.is_some_and(|file| is_same(file, &arguments.file)) {
        return Err("the output would overwrite the input".into());
    }
    let model = model.map_or("embedded".into(), |path| path.display().to_string());
    let format = arguments.format();
    let mut output = Output::create(format, file, model, config)?;
    // Words that appear on the same terminal show the progress themselves, and a bar would run over them.
    let words_appear = file.is_none() && format != Format::Json && io::stdout().is_terminal();
    let bar = if words_appear {
        ProgressBar::hidden()
    } else {
        bar(input.frames(), rate)
    };

    let start = Instant::now();
    let mut stream = recognizer.stream()?;
    let padding = u64::from(arguments.eos_padding) * u64::from(rate) / 1000;
    let result = transcribe(&mut input, &mut stream, &mut output, padding, &bar);
    let used = start.elapsed();
    bar.finish_and_clear();
    if result.is_err() {
        // The first error is the one to tell.
        let _ = output.abandon();
    }
    result?;
    if arguments.stats {
        eprintln!("{}", stats(stream.samples() as f64 / f64::from(rate), used, loading));
    }
    Ok(())
}

#[cfg(feature = "embedded-model")]
fn load(model: Option<&Path>, options: &Options) -> Result<Recognizer> {
    Ok(match model {
        Some(path) => Recognizer::load(path, options)?,
        None => Recognizer::embedded(options)?,
    })
}

#[cfg(not(feature = "embedded-model"))]
fn load(model: Option<&Path>, options: &Options) -> Result<Recognizer> {
    let path = model.ok_or("no model is built in: name a model directory with --model or NEMOSTT_MODEL")?;
    Ok(Recognizer::load(path, options)?)
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        // One of them does not exist, or is standard input.
        _ => false,
    }
}

/// Feeds all of `input` and `padding` samples of silence.
fn transcribe(
    input: &mut Input,
    stream: &mut Stream,
    output: &mut Output,
    padding: u64,
    bar: &ProgressBar,
) -> Result<()> {
    output.begin()?;
    let mut samples = Vec::new();
    loop {
        input.read(&mut samples)?;
        if samples.is_empty() {
            break;
        }
        stream.accept(&samples)?;
        write_words(stream, output)?;
        bar.set_position(stream.samples());
    }
    stream.finish(padding)?;
    write_words(stream, output)?;
    output.finish(stream.samples())?;
    Ok(())
}

fn write_words(stream: &mut Stream, output: &mut Output) -> io::Result<()> {
    while let Some(event) = stream.next_event() {
        if let Event::Word(word) = event {
            output.word(&word)?;
        }
    }
    Ok(())
}

/// A progress bar on standard error, hidden where nobody would see it.
fn bar(frames: Option<u64>, rate: u32) -> ProgressBar {
    let long = frames.filter(|frames| frames / u64::from(rate) >= WORTH_A_BAR);
    let Some(frames) = long.filter(|_| io::stderr().is_terminal()) else {
        return ProgressBar::hidden();
    };
    let style = ProgressStyle::with_template("{bar:40} {percent:>3} %, {eta} left");
    ProgressBar::new(frames).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// One line about `seconds` of audio.
fn stats(seconds: f64, used: Duration, loading: Duration) -> String {
    let used = used.as_secs_f64();
    let factor = if seconds > 0.0 { used / seconds } else { 0.0 };
    format!(
        "{seconds:.2} s of audio in {used:.2} s: real-time factor {factor:.3} (the model took {:.2} s more to load)",
        loading.as_secs_f64()
    )
}

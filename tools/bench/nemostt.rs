// SPDX-License-Identifier: MIT OR Apache-2.0

//! nemostt as `tools/bench` runs it: the recogniser, from samples to text.
//!
//! Loads the model, then hears the clip once for each line on its standard input, and answers each with a line of JSON. Beside
//! the time for all of it, that says how much of it was spent outside of the encoder's run (which projects and scores its
//! frames, too: `nemostt-compiler`, `append_joint_head.rs`).

use std::{
    env,
    error::Error,
    fmt::Write as _,
    io::{self, BufRead, Write as _},
    time::{Duration, Instant},
};

use nemostt::{
    Cache, CacheDirectory, Device, Event, GraphOptimization, Options, Precision, PrecisionChoice, Recognizer, Stream,
};

/// Samples handed over at a time: 10 ms, as sound cards do.
const PIECE: usize = 160;

const USAGE: &str = "usage: bench_nemostt MODEL-DIRECTORY CLIP.wav LOOKAHEAD-MS THREADS all|none auto|fp32|int8 \
                     [CACHE-DIRECTORY]; without the last, nothing is kept from one start to the next";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [model, clip, lookahead, threads, optimization, precision, cache @ ..] = arguments.as_slice() else {
        return Err(USAGE.into());
    };
    let directory = match cache {
        [] => CacheDirectory::Off,
        [directory] => CacheDirectory::At(directory.into()),
        _ => return Err(USAGE.into()),
    };
    let options = Options {
        lookahead: Some(lookahead.parse()?),
        device: Device::Cpu,
        threads: threads.parse()?,
        graph_optimization: match optimization.as_str() {
            "all" => GraphOptimization::All,
            "none" => GraphOptimization::None,
            _ => return Err(USAGE.into()),
        },
        precision: match precision.as_str() {
            "auto" => PrecisionChoice::Auto,
            "fp32" => PrecisionChoice::Fp32,
            "int8" => PrecisionChoice::Int8,
            _ => return Err(USAGE.into()),
        },
        cache: Cache {
            directory,
            ..Default::default()
        },
        ..Default::default()
    };
    let samples = hound::WavReader::open(clip)?
        .into_samples::<i16>()
        .map(|sample| Ok(f32::from(sample?) / 32_768.0))
        .collect::<hound::Result<Vec<f32>>>()?;

    let start = Instant::now();
    let recognizer = Recognizer::load(model, &options)?;
    let made = recognizer.config().precision;
    if options.precision == PrecisionChoice::Int8 && made != Precision::Int8 {
        return Err(format!("{model} is {made:?} and was not made int8").into());
    }
    let mut stream = recognizer.stream()?;
    answer(&serde_json::json!({ "load": start.elapsed().as_secs_f64() }))?;
    for line in io::stdin().lock().lines() {
        line?;
        stream.reset();
        let start = Instant::now();
        let (text, outside) = hear_clip(&mut stream, &samples)?;
        let seconds = start.elapsed().as_secs_f64();
        let outside = outside.as_secs_f64();
        answer(&serde_json::json!({ "seconds": seconds, "outside": outside, "text": text }))?;
    }
    Ok(())
}

/// The text, and the time that went by outside of the encoder's steps. Not inlined: the instructions are counted while this
/// function runs.
#[inline(never)]
fn hear_clip(stream: &mut Stream, samples: &[f32]) -> nemostt::Result<(String, Duration)> {
    let (mut text, mut outside) = (String::new(), Duration::ZERO);
    for piece in samples.chunks(PIECE) {
        let start = Instant::now();
        let mut encoded = None;
        stream.accept_observed(piece, &mut |_, _| encoded = Some(Instant::now()))?;
        take_words(stream, &mut text);
        // What precedes the encoder's step in a call is 10 ms of the front end, as in the calls without a step.
        outside += encoded.unwrap_or(start).elapsed();
    }
    stream.finish(0)?;
    take_words(stream, &mut text);
    Ok((text, outside))
}

fn take_words(stream: &mut Stream, text: &mut String) {
    while let Some(event) = stream.next_event() {
        if let Event::Word(word) = event {
            let space = if text.is_empty() { "" } else { " " };
            let _ = write!(text, "{space}{}", word.text);
        }
    }
}

fn answer(value: &serde_json::Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()
}

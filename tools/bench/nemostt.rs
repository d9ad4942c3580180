// SPDX-License-Identifier: MIT OR Apache-2.0

//! Runs nemostt for `tools/bench`: the recognizer, from samples to text.
//!
//! Loads the model, then transcribes the clip once for each line on standard input and answers with a line of JSON: the
//! text, the total time, and the part of it spent outside the encoder's run (which includes the joint's projection and
//! logits: `nemostt-compiler`, `append_joint_head.rs`).

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

/// Samples per call: 10 ms, like buffers from a sound card.
const BLOCK: usize = 160;

const USAGE: &str = "usage: bench_nemostt MODEL-DIRECTORY CLIP.wav LOOKAHEAD-MS THREADS all|none auto|fp32|int8 \
                     [CACHE-DIRECTORY]; without CACHE-DIRECTORY nothing is cached";

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
    let precision = recognizer.config().precision;
    if options.precision == PrecisionChoice::Int8 && precision != Precision::Int8 {
        return Err(format!("{model} is {precision:?} and was not quantized to int8").into());
    }
    let mut stream = recognizer.stream()?;
    send(&serde_json::json!({ "load": start.elapsed().as_secs_f64() }))?;
    for line in io::stdin().lock().lines() {
        line?;
        stream.reset();
        let start = Instant::now();
        let (text, outside) = transcribe_clip(&mut stream, &samples)?;
        let seconds = start.elapsed().as_secs_f64();
        let outside = outside.as_secs_f64();
        send(&serde_json::json!({ "seconds": seconds, "outside": outside, "text": text }))?;
    }
    Ok(())
}

/// Returns the text and the time spent outside the encoder's steps. Not inlined: `instructions.sh` counts the
/// instructions of this function by its name.
#[inline(never)]
fn transcribe_clip(stream: &mut Stream, samples: &[f32]) -> nemostt::Result<(String, Duration)> {
    let (mut text, mut outside) = (String::new(), Duration::ZERO);
    for block in samples.chunks(BLOCK) {
        let start = Instant::now();
        let mut encoded = None;
        stream.accept_observed(block, &mut |_, _| encoded = Some(Instant::now()))?;
        collect_words(stream, &mut text);
        // Everything before the encoder's step in a call is 10 ms of front end, as in the calls without a step.
        outside += encoded.unwrap_or(start).elapsed();
    }
    stream.finish(0)?;
    collect_words(stream, &mut text);
    Ok((text, outside))
}

fn collect_words(stream: &mut Stream, text: &mut String) {
    while let Some(event) = stream.next_event() {
        if let Event::Word(word) = event {
            let space = if text.is_empty() { "" } else { " " };
            let _ = write!(text, "{space}{}", word.text);
        }
    }
}

fn send(value: &serde_json::Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Runs parakeet-rs for `tools/bench`, from samples to text.
//!
//! Loads the model, then transcribes the clip once for each line on standard input and answers with a line of JSON.

use std::{
    env,
    error::Error,
    io::{self, BufRead, Write},
    time::Instant,
};

use parakeet_rs::{ExecutionConfig, Nemotron};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [model, clip, threads] = arguments.as_slice() else {
        return Err("usage: bench-parakeet-rs MODEL-DIRECTORY CLIP.wav THREADS".into());
    };
    let samples = hound::WavReader::open(clip)?
        .into_samples::<i16>()
        .map(|sample| Ok(f32::from(sample?) / 32_768.0))
        .collect::<hound::Result<Vec<f32>>>()?;

    let start = Instant::now();
    let config = ExecutionConfig::new()
        .with_environment(parakeet_rs::ort::init().build()?)
        .with_intra_threads(threads.parse()?);
    let mut model = Nemotron::from_pretrained(model, Some(config))?;
    // Each call recomputes the features of all buffered samples, so whole chunks are the fastest.
    let chunk = model.chunk_samples();
    send(&serde_json::json!({ "load": start.elapsed().as_secs_f64() }))?;
    for line in io::stdin().lock().lines() {
        line?;
        model.reset();
        let start = Instant::now();
        for samples in samples.chunks(chunk) {
            model.transcribe_chunk(samples)?;
        }
        let text = model.get_transcript();
        let seconds = start.elapsed().as_secs_f64();
        send(&serde_json::json!({ "seconds": seconds, "text": text }))?;
    }
    Ok(())
}

fn send(value: &serde_json::Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Runs many streams of one model for `tools/bench/streams.py`.
//!
//! For each line `STREAMS SECONDS` on standard input, that many threads feed a stream each with the clip, over and over and each
//! from another position, as fast as they can. A line of JSON is the answer: the seconds of audio per second. (`nemostt bench
//! --streams --paced` measures streams at the pace of real time.)

use std::{
    env,
    error::Error,
    io::{self, BufRead, Write as _},
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use nemostt::{Cache, CacheDirectory, Device, Options, PrecisionChoice, Recognizer, StreamClass};

const RATE: f64 = 16_000.0;
/// Samples per call: 10 ms, like buffers from a sound card.
const BLOCK: usize = 160;

const USAGE: &str = "usage: bench_streams MODEL-DIRECTORY CLIP.wav LOOKAHEAD-MS THREADS auto|fp32|int8 [MAX-BATCH]";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [model, clip, lookahead, threads, precision, batch @ ..] = arguments.as_slice() else {
        return Err(USAGE.into());
    };
    let options = Options {
        lookahead: Some(lookahead.parse()?),
        device: Device::Cpu,
        threads: threads.parse()?,
        max_batch: batch.first().map(|batch| batch.parse()).transpose()?,
        precision: match precision.as_str() {
            "auto" => PrecisionChoice::Auto,
            "fp32" => PrecisionChoice::Fp32,
            "int8" => PrecisionChoice::Int8,
            _ => return Err(USAGE.into()),
        },
        cache: Cache {
            directory: CacheDirectory::Off,
            ..Default::default()
        },
        ..Default::default()
    };
    let samples = hound::WavReader::open(clip)?
        .into_samples::<i16>()
        .map(|sample| Ok(f32::from(sample?) / 32_768.0))
        .collect::<Result<Vec<f32>, hound::Error>>()?;
    let recognizer = Recognizer::load(model, &options)?;
    println!("ready");
    for line in io::stdin().lock().lines() {
        let line = line?;
        let [streams, seconds] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            return Err("expected: STREAMS SECONDS".into());
        };
        let (streams, seconds): (usize, f64) = (streams.parse()?, seconds.parse()?);
        let taken = run(&recognizer, &samples, streams, seconds)?;
        let audio_per_second = streams as f64 * seconds / taken.as_secs_f64();
        println!(
            "{}",
            serde_json::json!({ "streams": streams, "audio_per_second": audio_per_second })
        );
        io::stdout().flush()?;
    }
    Ok(())
}

/// How long `streams` streams of `seconds` seconds take.
fn run(recognizer: &Recognizer, samples: &[f32], streams: usize, seconds: f64) -> Result<Duration, Box<dyn Error>> {
    let barrier = Barrier::new(streams + 1);
    let blocks = (seconds * RATE) as usize / BLOCK;
    let feed = |index: usize| {
        let created = recognizer.stream();
        barrier.wait();
        let mut stream = created?;
        stream.set_class(StreamClass::File);
        let first = index * samples.len() / streams / BLOCK;
        for block in samples.chunks_exact(BLOCK).cycle().skip(first).take(blocks) {
            stream.accept(block)?;
            while stream.next_event().is_some() {}
        }
        nemostt::Result::Ok(())
    };
    let feed = &feed;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..streams).map(|index| scope.spawn(move || feed(index))).collect();
        barrier.wait();
        let start = Instant::now();
        for thread in threads {
            thread.join().map_err(|_| "a stream panicked")??;
        }
        Ok(start.elapsed())
    })
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Runs many streams of one model for `tools/bench/streams.py`.
//!
//! For each line `STREAMS SECONDS paced|free` on standard input, that many threads feed a stream each with the clip, over and
//! over and each from another position, and a line of JSON is the answer: the seconds of audio per second and, for streams at
//! the pace of real time, percentiles of the delay from the moment at which the block that completes a chunk is due until its
//! words are there.

use std::{
    env,
    error::Error,
    io::{self, BufRead, Write as _},
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use nemostt::{Cache, CacheDirectory, Device, Options, PrecisionChoice, Recognizer};

/// Samples per call: 10 ms, like buffers from a sound card.
const BLOCK: usize = 160;
const BLOCK_TIME: Duration = Duration::from_millis(10);

const USAGE: &str = "usage: bench_streams MODEL-DIRECTORY CLIP.wav LOOKAHEAD-MS THREADS auto|fp32|int8 [MAX-BATCH]";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [model, clip, lookahead, threads, precision, batch @ ..] = arguments.as_slice() else {
        return Err(USAGE.into());
    };
    let max_batch = match batch {
        [] => None,
        [batch] => Some(batch.parse()?),
        _ => return Err(USAGE.into()),
    };
    let options = Options {
        lookahead: Some(lookahead.parse()?),
        device: Device::Cpu,
        threads: threads.parse()?,
        max_batch,
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
        let [streams, seconds, pace] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            return Err("expected: STREAMS SECONDS paced|free".into());
        };
        let run = Run {
            recognizer: &recognizer,
            samples: &samples,
            streams: streams.parse()?,
            seconds: seconds.parse()?,
            is_paced: pace == "paced",
        };
        println!("{}", run.measure()?);
        io::stdout().flush()?;
    }
    Ok(())
}

struct Run<'a> {
    recognizer: &'a Recognizer,
    samples: &'a [f32],
    streams: usize,
    seconds: f64,
    is_paced: bool,
}

impl Run<'_> {
    fn measure(&self) -> Result<serde_json::Value, Box<dyn Error>> {
        let barrier = Barrier::new(self.streams + 1);
        let (elapsed, mut delays) = thread::scope(|scope| {
            let threads: Vec<_> = (0..self.streams)
                .map(|index| {
                    let barrier = &barrier;
                    scope.spawn(move || self.stream(index, barrier))
                })
                .collect();
            barrier.wait();
            let start = Instant::now();
            let mut delays = Vec::new();
            for thread in threads {
                delays.extend(thread.join().map_err(|_| "a stream panicked")??);
            }
            Ok::<_, String>((start.elapsed(), delays))
        })?;
        delays.sort_unstable();
        let percentile = |share: f64| {
            let index = (share * delays.len().saturating_sub(1) as f64).round() as usize;
            delays.get(index).map(|delay| delay.as_secs_f64() * 1e3)
        };
        Ok(serde_json::json!({
            "streams": self.streams,
            "audio_per_second": self.streams as f64 * self.seconds / elapsed.as_secs_f64(),
            "p50": percentile(0.5),
            "p90": percentile(0.9),
            "p99": percentile(0.99),
            "max": percentile(1.0),
        }))
    }

    /// Delays of the steps of stream `index`.
    fn stream(&self, index: usize, barrier: &Barrier) -> Result<Vec<Duration>, String> {
        let config = self.recognizer.config();
        let chunk = (config.lookahead as u64 + 1) * config.frame_samples();
        let message = |error: nemostt::Error| error.to_string();
        let created = self.recognizer.stream();
        barrier.wait();
        let start = Instant::now();
        let mut stream = created.map_err(message)?;
        let mut blocks = self.samples.chunks_exact(BLOCK).cycle().skip(index * 37);
        // Chunks of different streams end at different times.
        let offset = BLOCK_TIME.mul_f64(chunk as f64 / BLOCK as f64 * index as f64 / self.streams as f64);
        let count = (self.seconds / BLOCK_TIME.as_secs_f64()) as u32;
        let mut delays = Vec::with_capacity(count as usize);
        let mut before = stream.stable_until();
        for (number, block) in (0..count).zip(&mut blocks) {
            let due = start + offset + BLOCK_TIME * (number + 1);
            if self.is_paced {
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            stream.accept(block).map_err(message)?;
            while stream.next_event().is_some() {}
            let now = stream.stable_until();
            if now != before && self.is_paced {
                delays.push(due.elapsed());
            }
            before = now;
        }
        Ok(delays)
    }
}

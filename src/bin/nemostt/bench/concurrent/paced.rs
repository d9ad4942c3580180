// SPDX-License-Identifier: MIT OR Apache-2.0

//! Streams at the pace of live sources.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use nemostt::Stream;

use super::{
    batching::Batching,
    clip::{BLOCK, Clip},
    step::accept,
    stream_pool::StreamPool,
    threads::feed_all,
    usage::Usage,
};
use crate::{Result, bench::process::CpuTime};

/// Chunks per stream that are not measured: threads start, and the clock frequency rises.
const WARM_UP: u32 = 4;
/// Time for the threads to wake up before the first block is due.
const HEAD_START: Duration = Duration::from_millis(100);
/// A stream that is late by this much will not catch up, and waiting for it would only take longer and longer.
const GIVE_UP: Duration = Duration::from_secs(2);
/// How often to look whether a stream gave up.
const POLL: Duration = Duration::from_millis(20);

/// Streams that were fed in real time.
pub struct Paced {
    /// From when the block that completed a chunk was due to its words, of all steps of all streams.
    pub delays: Vec<Duration>,
    /// How late the last block of a stream was done, of the stream where it was the latest.
    pub lag: Duration,
    /// Whether it ended early, because a stream was too late.
    pub gave_up: bool,
    pub batching: Batching,
    pub usage: Usage,
}

/// What the threads share.
#[derive(Default)]
struct Shared {
    steps: AtomicUsize,
    gave_up: AtomicBool,
}

/// One stream's part.
struct Fed {
    /// Index of the block, and delay.
    steps: Vec<(u32, Duration)>,
    lag: Duration,
}

/// Feeds `count` streams with `audio` each, after a warm-up. Their chunks end at different times, evenly spread.
pub fn measure(
    pool: &mut StreamPool<'_>,
    clip: &Clip,
    chunk: Duration,
    count: usize,
    audio: Duration,
) -> Result<Paced> {
    let warm_up = chunk * WARM_UP;
    let blocks = |time: Duration| time.div_duration_f64(BLOCK).round() as u32;
    let (skipped, total) = (blocks(warm_up), blocks(warm_up + audio));
    let shared = Shared::default();
    let recognizer = pool.recognizer();
    let feed = |stream: &mut Stream, index: usize, begin: Instant| {
        let phase = chunk.mul_f64(index as f64 / count as f64);
        let position = clip.position(index, count);
        feed(stream, clip, position, begin + HEAD_START + phase, total, &shared)
    };
    let observe = |begin: Instant| {
        // All streams run from the end of the warm-up until the first one has all its audio.
        let start = begin + HEAD_START + warm_up;
        sleep_until(start, &shared);
        let lanes = recognizer.metrics().total();
        let then = (CpuTime::now(), shared.steps.load(Ordering::Relaxed));
        sleep_until(start + audio, &shared);
        let steps = shared.steps.load(Ordering::Relaxed) - then.1;
        let lanes = recognizer.metrics().total().since(&lanes);
        (then.0, CpuTime::now(), chunk * steps as u32, lanes)
    };
    let (fed, (then, now, decoded, lanes), at_end) = feed_all(pool.warm(count)?, feed, observe)?;

    let gave_up = shared.gave_up.into_inner();
    let steps = fed.iter().flat_map(|fed| &fed.steps);
    // If it ended early, that may have been during the warm-up.
    let measured = steps.filter(|step| gave_up || step.0 >= skipped);
    Ok(Paced {
        delays: measured.map(|step| step.1).collect(),
        lag: fed.iter().map(|fed| fed.lag).max().unwrap_or_default(),
        gave_up,
        batching: Batching::new(&lanes),
        usage: Usage::new(pool, &at_end, then.zip(now), decoded),
    })
}

/// Feeds `blocks` blocks, of which the first one is due at `start`, from the block at `position` of the clip on.
fn feed(
    stream: &mut Stream,
    clip: &Clip,
    position: usize,
    start: Instant,
    blocks: u32,
    shared: &Shared,
) -> nemostt::Result<Fed> {
    let mut fed = Fed {
        steps: Vec::new(),
        lag: Duration::ZERO,
    };
    for index in 0..blocks {
        let due = start + BLOCK * index;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if shared.gave_up.load(Ordering::Relaxed) {
            break;
        }
        let is_step = accept(stream, clip.block(position + index as usize))?;
        fed.lag = due.elapsed();
        if is_step {
            fed.steps.push((index, fed.lag));
            shared.steps.fetch_add(1, Ordering::Relaxed);
        }
        if fed.lag > GIVE_UP {
            shared.gave_up.store(true, Ordering::Relaxed);
        }
    }
    Ok(fed)
}

/// Sleeps until then, or until a stream gives up.
fn sleep_until(then: Instant, shared: &Shared) {
    while !shared.gave_up.load(Ordering::Relaxed) {
        match then.saturating_duration_since(Instant::now()) {
            Duration::ZERO => return,
            left => thread::sleep(left.min(POLL)),
        }
    }
}

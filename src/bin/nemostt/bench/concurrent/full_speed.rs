// SPDX-License-Identifier: MIT OR Apache-2.0

//! Streams as fast as possible.

use std::time::{Duration, Instant};

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

/// Streams that were fed as fast as they took it.
pub struct FullSpeed {
    /// Seconds of audio per second, of all streams together.
    pub speed: f64,
    pub batching: Batching,
    pub usage: Usage,
}

/// Feeds `count` streams with `audio` each.
pub fn measure(pool: &mut StreamPool<'_>, clip: &Clip, count: usize, audio: Duration) -> Result<FullSpeed> {
    let recognizer = pool.recognizer();
    let blocks = audio.div_duration_f64(BLOCK).round() as usize;
    let feed = |stream: &mut Stream, index: usize, _: Instant| {
        let position = clip.position(index, count);
        for index in position..position + blocks {
            accept(stream, clip.block(index))?;
        }
        Ok(Instant::now())
    };
    let lanes = || recognizer.metrics().total();
    let observe = |begin: Instant| (begin, CpuTime::now(), lanes());
    let (ends, (begin, then, lanes_before), at_end) = feed_all(pool.warm(count)?, feed, observe)?;
    let end = ends.into_iter().max().unwrap_or(begin);
    let all = BLOCK.mul_f64((blocks * count) as f64);
    Ok(FullSpeed {
        speed: all.div_duration_f64(end - begin),
        batching: Batching::new(&lanes().since(&lanes_before)),
        usage: Usage::new(pool, &at_end, then.zip(at_end.cpu), all),
    })
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The number of real-time streams per core.

use std::time::{Duration, Instant};

use nemostt::{Recognizer, Stream};

use crate::Result;

/// Audio per stream in one attempt.
const AUDIO_PER_ATTEMPT: Duration = Duration::from_secs(2);
/// Maximum number of attempts.
const ATTEMPTS: usize = 6;
/// Upper limit, because each stream takes memory.
const MAX_STREAMS: usize = 2000;

/// The largest number of streams that a recognizer with one thread runs in real time.
pub fn measure(recognizer: &Recognizer, speech: &[f32]) -> Result<usize> {
    let mut streams = StreamSet::new(recognizer, speech);
    let mut count = fitting(1, streams.load(1)?);
    let (mut kept, mut missed) = (0, MAX_STREAMS + 1);
    for _ in 0..ATTEMPTS {
        if count <= kept || count >= missed {
            break;
        }
        let load = streams.load(count)?;
        match load <= 1.0 {
            true => kept = count,
            false => missed = count,
        }
        count = fitting(count, load);
    }
    Ok(kept)
}

/// The number of streams that would give a load of 1, if `count` of them give `load`.
fn fitting(count: usize, load: f64) -> usize {
    let fitting = (count as f64 / load) as usize;
    // After a load above 1 always fewer, whatever the rounding.
    let limit = if load > 1.0 { count - 1 } else { MAX_STREAMS };
    fitting.min(limit)
}

/// Streams at different positions of the clip.
struct StreamSet<'a> {
    recognizer: &'a Recognizer,
    speech: &'a [f32],
    streams: Vec<(Stream, usize)>,
    /// Samples per chunk.
    chunk: usize,
    chunk_duration: Duration,
}

impl<'a> StreamSet<'a> {
    fn new(recognizer: &'a Recognizer, speech: &'a [f32]) -> Self {
        let config = recognizer.config();
        let chunk = (config.lookahead + 1) * config.frame_samples() as usize;
        Self {
            recognizer,
            speech,
            streams: Vec::new(),
            chunk,
            chunk_duration: Duration::from_secs_f64(chunk as f64 / f64::from(config.front_end.sample_rate)),
        }
    }

    /// The computing time of `count` streams, as a share of the duration of their audio.
    fn load(&mut self, count: usize) -> Result<f64> {
        while self.streams.len() < count {
            // Far apart, so that they do not all decode the same word at the same time.
            let position = self.streams.len() * 7 * self.chunk;
            self.streams.push((self.recognizer.stream()?, position));
        }
        // Warm-up: the first window is narrower, and new streams cause page faults.
        self.round(count)?;
        let rounds = AUDIO_PER_ATTEMPT.div_duration_f64(self.chunk_duration).ceil() as u32;
        let start = Instant::now();
        for _ in 0..rounds {
            self.round(count)?;
        }
        Ok(start.elapsed().div_duration_f64(self.chunk_duration * rounds))
    }

    /// Pushes one chunk to each stream in turn.
    fn round(&mut self, count: usize) -> Result<()> {
        for (stream, position) in &mut self.streams[..count] {
            let start = *position % (self.speech.len() - self.chunk);
            stream.accept(&self.speech[start..start + self.chunk])?;
            while stream.next_event().is_some() {}
            *position = start + self.chunk;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_attempt_follows_the_load() {
        assert_eq!(fitting(1, 0.01), 100);
        assert_eq!(fitting(100, 0.8), 125);
        assert_eq!(fitting(100, 1.3), 76);
        assert_eq!(fitting(100, 1.000_1), 99);
        assert_eq!(fitting(1, 1.5), 0);
        assert_eq!(fitting(1, 1e-9), MAX_STREAMS);
    }
}

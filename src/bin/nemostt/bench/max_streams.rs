// SPDX-License-Identifier: MIT OR Apache-2.0

//! How many streams one core keeps up with.

use std::time::{Duration, Instant};

use nemostt::{Recognizer, Stream};

use crate::Result;

/// Audio that each stream hears in one attempt.
const AUDIO_PER_ATTEMPT: Duration = Duration::from_secs(2);
/// Attempts to find the number.
const ATTEMPTS: usize = 6;
/// Nobody needs to know more; and each stream takes memory.
const MAX_STREAMS: usize = 2000;

/// The most streams that a recogniser with one thread kept up with.
pub fn measure(recognizer: &Recognizer, speech: &[f32]) -> Result<usize> {
    let mut crowd = StreamSet::new(recognizer, speech);
    let mut count = fitting(1, crowd.load(1)?);
    let (mut kept, mut missed) = (0, MAX_STREAMS + 1);
    for _ in 0..ATTEMPTS {
        if count <= kept || count >= missed {
            break;
        }
        let load = crowd.load(count)?;
        match load <= 1.0 {
            true => kept = count,
            false => missed = count,
        }
        count = fitting(count, load);
    }
    Ok(kept)
}

/// How many streams would fit if `count` of them make this load.
fn fitting(count: usize, load: f64) -> usize {
    let fitting = (count as f64 / load) as usize;
    // Fewer after a load too high, whatever the rounding.
    let limit = if load > 1.0 { count - 1 } else { MAX_STREAMS };
    fitting.min(limit)
}

/// Streams that hear the clip at different places.
struct StreamSet<'a> {
    recognizer: &'a Recognizer,
    speech: &'a [f32],
    streams: Vec<(Stream, usize)>,
    /// Samples of a chunk.
    chunk: usize,
    /// How long it lasts.
    lasts: Duration,
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
            lasts: Duration::from_secs_f64(chunk as f64 / f64::from(config.front_end.sample_rate)),
        }
    }

    /// The computing of `count` streams as a share of the time that there is for it.
    fn load(&mut self, count: usize) -> Result<f64> {
        while self.streams.len() < count {
            // Far from each other, so that not all of them say the same word at once.
            let place = self.streams.len() * 7 * self.chunk;
            self.streams.push((self.recognizer.stream()?, place));
        }
        // The first window is narrower, and new streams touch their memory.
        self.round(count)?;
        let rounds = AUDIO_PER_ATTEMPT.div_duration_f64(self.lasts).ceil() as u32;
        let start = Instant::now();
        for _ in 0..rounds {
            self.round(count)?;
        }
        Ok(start.elapsed().div_duration_f64(self.lasts * rounds))
    }

    /// Gives a chunk to each stream in turn.
    fn round(&mut self, count: usize) -> Result<()> {
        for (stream, place) in &mut self.streams[..count] {
            let start = *place % (self.speech.len() - self.chunk);
            stream.accept(&self.speech[start..start + self.chunk])?;
            while stream.next_event().is_some() {}
            *place = start + self.chunk;
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

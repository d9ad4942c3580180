// SPDX-License-Identifier: MIT OR Apache-2.0

//! Streams that are as if they had run for a while.

use nemostt::{Recognizer, Snapshot, Stream};

use super::{clip::Clip, step::accept};
use crate::{Result, bench::memory};

/// After two steps, both copies of a stream's caches have been written.
const STEPS_FOR_MEMORY: usize = 2;

/// Streams of one recognizer. They are kept from one measurement to the next: what they take cannot be measured any
/// more once memory has been freed and is used again.
pub struct StreamPool<'a> {
    recognizer: &'a Recognizer,
    clip: &'a Clip,
    /// A stream with full caches, just after a step.
    warm: Snapshot,
    /// What the warm stream takes belongs to the model: it must not be left to the first stream of the pool.
    _first: Stream,
    /// Resident memory before there were streams.
    before: Option<u64>,
    streams: Vec<Stream>,
}

impl<'a> StreamPool<'a> {
    pub fn new(recognizer: &'a Recognizer, clip: &'a Clip) -> Result<Self> {
        let config = recognizer.config();
        let mut first = recognizer.stream()?;
        let steps = config.streaming.left_context.div_ceil(config.lookahead + 1) + STEPS_FOR_MEMORY;
        run(&mut first, clip, steps)?;
        let mut warm = Snapshot::default();
        first.save(&mut warm);
        Ok(Self {
            recognizer,
            clip,
            warm,
            _first: first,
            before: memory::resident(),
            streams: Vec::new(),
        })
    }

    pub fn recognizer(&self) -> &'a Recognizer {
        self.recognizer
    }

    /// `count` streams with full caches, each just after a step.
    pub fn warm(&mut self, count: usize) -> Result<&mut [Stream]> {
        while self.streams.len() < count {
            let mut stream = self.recognizer.stream()?;
            stream.restore(&self.warm)?;
            run(&mut stream, self.clip, STEPS_FOR_MEMORY)?;
            self.streams.push(stream);
        }
        let streams = &mut self.streams[..count];
        for stream in &mut *streams {
            stream.restore(&self.warm)?;
        }
        Ok(streams)
    }

    /// Bytes per stream, if the process has `resident` bytes.
    pub fn bytes_per_stream(&self, resident: Option<u64>) -> Option<u64> {
        let all = resident?.saturating_sub(self.before?);
        Some(all / self.streams.len().max(1) as u64)
    }
}

/// Feeds a stream until just after its next `steps` steps.
fn run(stream: &mut Stream, clip: &Clip, steps: usize) -> Result<()> {
    let (mut index, mut done) = (0, 0);
    while done < steps {
        done += usize::from(accept(stream, clip.block(index))?);
        index += 1;
    }
    Ok(())
}

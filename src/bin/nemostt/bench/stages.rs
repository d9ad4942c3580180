// SPDX-License-Identifier: MIT OR Apache-2.0

//! Time per stage, measured from outside the recognizer.
//!
//! Samples are pushed in blocks of one hop. A block that does not complete a window takes only the front end's time. One that
//! does also takes the encoder's, until the observer is called, and then the decoder's.

use std::time::{Duration, Instant};

use nemostt::{Recognizer, Stream};

use crate::Result;

/// Long enough for the percentiles of the longest chunks.
const MIN_DURATION: Duration = Duration::from_secs(3);
/// Slow machines stop before the end of the clip.
const MAX_DURATION: Duration = Duration::from_secs(15);

/// Sums over all audio.
#[derive(Debug, Default)]
pub struct Stages {
    /// Audio, in seconds.
    pub seconds: f64,
    /// Computing time.
    pub used: Duration,
    pub front_end: Duration,
    pub encoder: Duration,
    pub decoder: Duration,
    pub rest: Duration,
    /// From the last block of each chunk to its words.
    pub steps: Vec<Duration>,
}

/// Transcribes `speech` repeatedly.
pub fn measure(recognizer: &Recognizer, speech: &[f32]) -> Result<Stages> {
    let front_end = recognizer.config().front_end;
    let mut stream = recognizer.stream()?;
    let mut stages = Stages::default();
    // Warm-up: the first steps allocate memory and raise the clock frequency.
    pass(
        &mut Stages::default(),
        &mut stream,
        &speech[..speech.len() / 4],
        front_end.hop,
    )?;
    while stages.used < MIN_DURATION {
        stream.reset();
        let samples = pass(&mut stages, &mut stream, speech, front_end.hop)?;
        stages.seconds += samples as f64 / f64::from(front_end.sample_rate);
    }
    Ok(stages)
}

/// Transcribes `speech` once, and returns the number of samples.
fn pass(stages: &mut Stages, stream: &mut Stream, speech: &[f32], hop: usize) -> Result<usize> {
    let (mut without_step, mut blocks, mut with_step, mut steps) = (Duration::ZERO, 0_u32, Duration::ZERO, 0_u32);
    let begin = Instant::now();
    for block in speech.chunks_exact(hop) {
        if begin.elapsed() > MAX_DURATION {
            break;
        }
        let (start, mut encoded) = (Instant::now(), None);
        stream.accept_observed(block, &mut |_, _| encoded = Some(Instant::now()))?;
        let decoded = Instant::now();
        while stream.next_event().is_some() {}
        let end = Instant::now();
        stages.rest += end - decoded;
        match encoded {
            None => {
                without_step += decoded - start;
                blocks += 1;
            }
            Some(encoded) => {
                with_step += encoded - start;
                stages.decoder += decoded - encoded;
                stages.steps.push(end - start);
                steps += 1;
            }
        }
    }
    // In a block that completes a window, the front end takes as long as in the others.
    let share = without_step / blocks.max(1) * steps;
    stages.front_end += without_step + share;
    stages.encoder += with_step.saturating_sub(share);
    stages.used += begin.elapsed();
    Ok(stream.samples() as usize)
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! How long each stage takes, seen from outside the recogniser.
//!
//! Samples come in pieces of one hop. A piece that fills no window costs the front end alone. One that does costs the same
//! and the encoder until the observer is called, and the decoder after it.

use std::time::{Duration, Instant};

use nemostt::{Recognizer, Stream};

use crate::Result;

/// Long enough for the percentiles of the longest chunks.
const MIN_DURATION: Duration = Duration::from_secs(3);
/// Slow machines need not hear the clip to its end.
const MAX_DURATION: Duration = Duration::from_secs(15);

/// Sums over all that was heard.
#[derive(Debug, Default)]
pub struct Stages {
    /// Audio, in seconds.
    pub seconds: f64,
    /// All computing.
    pub used: Duration,
    pub front_end: Duration,
    pub encoder: Duration,
    pub decoder: Duration,
    pub rest: Duration,
    /// From the last piece of each chunk to its words.
    pub steps: Vec<Duration>,
}

/// Hears `speech` over and over.
pub fn measure(recognizer: &Recognizer, speech: &[f32]) -> Result<Stages> {
    let front_end = recognizer.config().front_end;
    let mut stream = recognizer.stream()?;
    let mut stages = Stages::default();
    // The first steps take memory and wake the processor up; they do not count.
    pass(
        &mut Stages::default(),
        &mut stream,
        &speech[..speech.len() / 4],
        front_end.hop,
    )?;
    while stages.used < MIN_DURATION {
        stream.reset();
        let heard = pass(&mut stages, &mut stream, speech, front_end.hop)?;
        stages.seconds += heard as f64 / f64::from(front_end.sample_rate);
    }
    Ok(stages)
}

/// Hears `speech` once; gives how many samples it was.
fn pass(stages: &mut Stages, stream: &mut Stream, speech: &[f32], hop: usize) -> Result<usize> {
    let (mut quiet, mut pieces, mut filled, mut steps) = (Duration::ZERO, 0_u32, Duration::ZERO, 0_u32);
    let begin = Instant::now();
    for piece in speech.chunks_exact(hop) {
        if begin.elapsed() > MAX_DURATION {
            break;
        }
        let (start, mut encoded) = (Instant::now(), None);
        stream.accept_observed(piece, &mut |_, _| encoded = Some(Instant::now()))?;
        let decoded = Instant::now();
        while stream.next_event().is_some() {}
        let end = Instant::now();
        stages.rest += end - decoded;
        match encoded {
            None => {
                quiet += decoded - start;
                pieces += 1;
            }
            Some(encoded) => {
                filled += encoded - start;
                stages.decoder += decoded - encoded;
                stages.steps.push(end - start);
                steps += 1;
            }
        }
    }
    // The front end's share of the pieces that filled a window is that of the others.
    let share = quiet / pieces.max(1) * steps;
    stages.front_end += quiet + share;
    stages.encoder += filled.saturating_sub(share);
    stages.used += begin.elapsed();
    Ok(stream.samples() as usize)
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! A step of a stream: when it happens, and how much audio it takes.

use std::time::Duration;

use nemostt::{ModelConfig, Stream};

/// Feeds a block, takes the words, and says whether the block completed a chunk.
pub fn accept(stream: &mut Stream, block: &[f32]) -> nemostt::Result<bool> {
    let mut is_step = false;
    stream.accept_observed(block, &mut |_, _| is_step = true)?;
    while stream.next_event().is_some() {}
    Ok(is_step)
}

/// Audio per step.
pub fn chunk(config: &ModelConfig) -> Duration {
    let samples = (config.lookahead as u64 + 1) * config.frame_samples();
    Duration::from_secs_f64(samples as f64 / f64::from(config.front_end.sample_rate))
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Concurrent streams: how many live streams of one model in one process this machine holds, or how much audio it
//! transcribes per second with so many.

mod args;
mod batching;
mod clip;
mod full_speed;
mod paced;
mod report;
mod row;
mod search;
mod step;
mod stream_pool;
mod threads;
mod usage;

use std::time::Duration;

pub use args::{ConcurrentArguments, Plan};
use args::{Counts, MAX_STREAMS};
use clip::Clip;
use nemostt::Recognizer;
use report::Mode;
pub use report::Report;
use row::Row;
use stream_pool::StreamPool;

use super::{quantile::milliseconds, setup::Setup};
use crate::Result;

/// Measures streams of `recognizer` as planned, with `audio` per stream. `show` is called with what is measured next.
pub fn measure(
    recognizer: &Recognizer,
    setup: Setup,
    speech: Vec<f32>,
    (plan, audio): (Plan, Duration),
    show: &dyn Fn(String),
) -> Result<Report> {
    let config = recognizer.config();
    let (clip, chunk) = (Clip::new(speech, config.front_end.sample_rate), step::chunk(config));
    let mut pool = StreamPool::new(recognizer, &clip)?;
    let mut rows = Vec::new();
    let mode = match plan {
        Plan::FullSpeed(counts) => {
            for count in counts {
                show(format!("{count} streams as fast as possible"));
                let measured = full_speed::measure(&mut pool, &clip, count, audio)?;
                rows.push(Row::full_speed(count, measured));
            }
            Mode::FullSpeed
        }
        Plan::Paced { counts, bound } => {
            let mut is_within = |count| {
                show(format!("{count} streams in real time"));
                let measured = paced::measure(&mut pool, &clip, chunk, count, audio)?;
                let row = Row::paced(count, measured, chunk, bound);
                let is_within = row.is_within(bound);
                rows.push(row);
                Ok(is_within)
            };
            let max_streams = match counts {
                Counts::Search => Some(search::largest(MAX_STREAMS.into(), is_within)?),
                Counts::Listed(counts) => {
                    for count in counts {
                        is_within(count)?;
                    }
                    None
                }
            };
            Mode::Paced {
                delay_bound_ms: milliseconds(bound),
                max_streams,
            }
        }
    };
    Ok(Report::new(setup, config, audio, mode, rows))
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a measurement took, besides time.

use std::time::Duration;

use serde::Serialize;

use super::{stream_pool::StreamPool, threads::AtEnd};
use crate::bench::{process::CpuTime, quantile::milliseconds};

/// What this process used. Unknown on other systems than Linux.
#[derive(Debug, Serialize)]
pub struct Usage {
    /// Processor time in milliseconds per second of audio of one stream.
    pub cpu_ms: Option<f64>,
    /// Resident memory per stream, with its thread.
    pub stream_bytes: Option<u64>,
    /// Threads of the process.
    pub threads: Option<usize>,
    /// Share of the processors' time in which they ran other programs, 0 to 1.
    pub other_programs: Option<f64>,
}

impl Usage {
    /// Of a measurement between two instants, in which all streams together decoded `audio`.
    pub fn new(pool: &StreamPool<'_>, end: &AtEnd, between: Option<(CpuTime, CpuTime)>, audio: Duration) -> Self {
        let cpu = between.map(|(then, now)| milliseconds(now.process_since(then)));
        let seconds = Some(audio.as_secs_f64()).filter(|&seconds| seconds > 0.0);
        Self {
            cpu_ms: cpu.zip(seconds).map(|(cpu, seconds)| cpu / seconds),
            stream_bytes: pool.bytes_per_stream(end.resident),
            threads: end.threads,
            other_programs: between.map(|(then, now)| now.others_since(then)),
        }
    }
}

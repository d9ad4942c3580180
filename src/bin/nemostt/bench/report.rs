// SPDX-License-Identifier: MIT OR Apache-2.0

//! The report as a table and as JSON.

use std::{
    fmt::{self, Display},
    time::Duration,
};

use nemostt::ModelConfig;
use serde::Serialize;

use super::{
    cpu_contention,
    memory::Memory,
    quantile::{milliseconds, quantile},
    setup::Setup,
    stages::Stages,
    text::{digits, mebibytes, table},
};

/// All results.
#[derive(Debug, Serialize)]
pub struct Report {
    #[serde(flatten)]
    setup: Setup,
    /// Includes the start of ONNX Runtime.
    first_load_ms: f64,
    /// Median of the other loads.
    load_ms: Option<f64>,
    memory_bytes: Memory,
    /// Share of the time, 0 to 1, in which this thread waited for a processor.
    waiting: Option<f64>,
    lookaheads: Vec<Row>,
}

/// One lookahead. Times are in milliseconds, those of stages per chunk.
#[derive(Debug, Serialize)]
pub struct Row {
    lookahead_ms: u32,
    chunk_ms: f64,
    real_time_factor: f64,
    front_end_ms: f64,
    encoder_ms: f64,
    decoder_ms: f64,
    rest_ms: f64,
    step_median_ms: f64,
    step_p95_ms: f64,
    streams_per_core: usize,
}

impl Row {
    pub fn new(config: &ModelConfig, lookahead: u32, stages: &Stages, streams: usize) -> Self {
        let rate = f64::from(config.front_end.sample_rate);
        let frame = config.frame_samples() as f64 * 1000.0 / rate;
        let count = stages.steps.len().max(1) as f64;
        let mean = |sum: Duration| milliseconds(sum) / count;
        Self {
            lookahead_ms: lookahead,
            chunk_ms: f64::from(lookahead) + frame,
            real_time_factor: stages.used.as_secs_f64() / stages.seconds,
            front_end_ms: mean(stages.front_end),
            encoder_ms: mean(stages.encoder),
            decoder_ms: mean(stages.decoder),
            rest_ms: mean(stages.rest),
            step_median_ms: quantile(&stages.steps, 0.5),
            step_p95_ms: quantile(&stages.steps, 0.95),
            streams_per_core: streams,
        }
    }

    fn cells(&self) -> [String; 10] {
        let ms = |value: f64| digits(value);
        [
            format!("{} ms", self.lookahead_ms),
            format!("{:.0} ms", self.chunk_ms),
            digits(self.real_time_factor),
            ms(self.front_end_ms),
            ms(self.encoder_ms),
            ms(self.decoder_ms),
            ms(self.rest_ms),
            ms(self.step_median_ms),
            ms(self.step_p95_ms),
            self.streams_per_core.to_string(),
        ]
    }
}

impl Report {
    pub fn new(
        setup: Setup,
        (first_load, loads): (Duration, Vec<Duration>),
        memory: Memory,
        waiting: Option<f64>,
        rows: Vec<Row>,
    ) -> Self {
        Self {
            setup,
            first_load_ms: milliseconds(first_load),
            load_ms: (!loads.is_empty()).then(|| quantile(&loads, 0.5)),
            memory_bytes: memory,
            waiting,
            lookaheads: rows,
        }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.setup)?;
        let later = self.load_ms.map_or(String::new(), |ms| {
            format!(", {} s for later loads", digits(ms / 1000.0))
        });
        writeln!(f, "load time  {} s{later}", digits(self.first_load_ms / 1000.0))?;
        let memory = &self.memory_bytes;
        writeln!(
            f,
            "memory     {} for the model, {} per additional stream; peak {} while loading, {} in total\n",
            mebibytes(memory.model),
            mebibytes(memory.stream),
            mebibytes(memory.loading_peak),
            mebibytes(memory.peak)
        )?;
        let header = [
            "lookahead",
            "chunk",
            "RTF",
            "front end",
            "encoder",
            "decoder",
            "rest",
            "step",
            "p95",
            "streams/core",
        ];
        writeln!(f, "{}\n", table(header, self.lookaheads.iter().map(Row::cells)))?;
        f.write_str(&cpu_contention::warning(self.waiting))?;
        writeln!(
            f,
            "RTF: computing time per second of audio. Stages: mean ms per chunk. Step: ms from a chunk's end to its words,"
        )?;
        writeln!(
            f,
            "median and 95th percentile. `nemostt bench --help` describes the method."
        )
    }
}
